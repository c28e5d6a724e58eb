//! Variables for a container, passed without a trace in anybody's arguments: in a file that is removed afterwards, and
//! those that such a file cannot hold in the environment of the client.

use indexmap::IndexMap;
use thiserror::Error;

/// The client reads its file in lines of at most 64 KiB.
const LONGEST: usize = 60 * 1024;

/// Variables for a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::engine) struct Variables {
    /// The content of the file for `--env-file`.
    pub(super) file: String,
    /// The variables of the client that `--env NAME` passes on.
    pub(super) named: Vec<(String, String)>,
}

/// A variable that would mean something to the client.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "the variable {0} has a value of several lines, or of more than 60 KiB, and such a one cannot be passed to a container \
     under this name"
)]
pub(in crate::engine) struct Reserved(String);

impl Variables {
    /// # Errors
    /// A variable that only the client's environment can hold is one that the client obeys itself.
    pub(super) fn new(variables: &IndexMap<String, String>) -> Result<Variables, Reserved> {
        let mut all = Variables::default();
        for (name, value) in variables {
            if fits(name, value) {
                all.file += &format!("{name}={value}\n");
            } else if is_reserved(name) {
                return Err(Reserved(name.clone()));
            } else {
                all.named.push((name.clone(), value.clone()));
            }
        }
        Ok(all)
    }

    /// The arguments of the client, for the file at `path`.
    pub(super) fn arguments(&self, path: &str) -> Vec<String> {
        let named = self.named.iter().flat_map(|(name, _)| ["--env".to_owned(), name.clone()]);
        ["--env-file".to_owned(), path.to_owned()].into_iter().chain(named).collect()
    }
}

/// Whether a line of the file says exactly this. A line ends with a line feed, and a carriage return before it is dropped;
/// blanks before a name are too, and `#` begins a comment.
fn fits(name: &str, value: &str) -> bool {
    name.len() + value.len() < LONGEST
        && !value.contains(['\n', '\r'])
        && !name.contains(|c: char| c.is_whitespace())
        && !name.starts_with(['#', '\u{feff}'])
}

fn is_reserved(name: &str) -> bool {
    ["DOCKER_", "BUILDKIT_", "LD_", "GO", "OTEL_"].iter().any(|prefix| name.starts_with(prefix))
        || name.to_ascii_lowercase().ends_with("_proxy")
        || matches!(name, "PATH" | "HOME" | "SSL_CERT_FILE" | "SSL_CERT_DIR")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, &str)]) -> Result<Variables, Reserved> {
        Variables::new(&pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn a_line_holds_what_it_can_hold() {
        let all = of(&[("A", "1"), ("B", " 'x' \"y\" $z # "), ("C", ""), ("D", "a=b")]).unwrap();
        assert_eq!(all.file, "A=1\nB= 'x' \"y\" $z # \nC=\nD=a=b\n");
        assert_eq!(all.arguments("/f"), ["--env-file", "/f"]);
    }

    #[test]
    fn the_client_holds_the_rest() {
        let long = "x".repeat(LONGEST);
        let all = of(&[("A", "1\n2"), ("B", "1\r"), ("C D", "x"), ("#E", "x"), ("F", &long)]).unwrap();
        assert_eq!(all.file, "");
        let names: Vec<&str> = all.named.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["A", "B", "C D", "#E", "F"]);
        assert_eq!(all.arguments("/f")[2..4], ["--env", "A"]);
    }

    #[test]
    fn what_the_client_obeys_is_not_for_others() {
        assert!(
            of(&[("DOCKER_HOST", "tcp://x"), ("PATH", "/x")]).is_ok(),
            "in the file it means nothing to the client"
        );
        for name in ["DOCKER_HOST", "LD_PRELOAD", "PATH", "https_proxy"] {
            let error = of(&[(name, "a\nb")]).unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        }
    }
}
