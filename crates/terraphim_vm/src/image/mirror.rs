//! Where Debian's packages come from unless a recipe says otherwise.

use std::{fs, path::PathBuf};

/// Debian's own mirror, as the installed mmdebstrap has it: the program that makes the root file system decides, on
/// Debian and on Ubuntu alike. Empty when mmdebstrap is not installed, which no recipe passes with.
pub(super) fn debian() -> String {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let program =
        std::env::split_paths(&path).map(|directory| directory.join("mmdebstrap")).find(|it| it.is_file());
    program.and_then(in_program).unwrap_or_default()
}

/// The mirror of the security updates beside it.
pub(super) fn security() -> String {
    let mirror = debian();
    if mirror.is_empty() { mirror } else { format!("{mirror}-security") }
}

fn in_program(program: PathBuf) -> Option<String> {
    find(&fs::read_to_string(program).ok()?)
}

/// The first assignment of an address to the script's `$mirror`.
fn find(script: &str) -> Option<String> {
    script.lines().find_map(|line| {
        let value = line.trim_start().strip_prefix("my $mirror")?.trim_start().strip_prefix('=')?.trim();
        let address = value.strip_prefix(['\'', '"'])?.split(['\'', '"']).next()?;
        address.starts_with("http").then(|| address.trim_end_matches('/').to_owned())
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_assignment_is_found_among_others() {
        let script = "my $mirrors = 1;\n  my $mirror;\n    my $mirror    = 'http://m.example/debian/';\n";
        assert_eq!(super::find(script).as_deref(), Some("http://m.example/debian"));
        assert_eq!(super::find("my $mirror = shift;"), None);
    }

    #[test]
    fn the_installed_program_has_one() {
        assert!(super::debian().starts_with("http"), "mmdebstrap is not installed, or assigns no mirror");
    }
}
