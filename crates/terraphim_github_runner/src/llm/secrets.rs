//! What a prompt must not hold.

use std::ffi::OsString;

use terraphim_actions::mask::Masker;

/// Parts of the names of variables that hold secrets.
const NAMES: &[&str] =
    &["KEY", "TOKEN", "SECRET", "PASSWORD", "PASSWD", "PASSPHRASE", "CREDENTIAL", "PRIVATE"];

/// A shorter value is a switch (`1`, `true`, `none`) and would be found in every text.
const MIN_BYTES: usize = 6;

/// A masker of the values of those `variables` whose names look like those of secrets, and of all `others`.
///
/// # Errors
/// There is too much to search for.
pub fn secrets_of<'a>(
    variables: impl IntoIterator<Item = (OsString, OsString)>,
    others: impl IntoIterator<Item = &'a str>,
) -> Result<Masker, terraphim_actions::mask::MaskError> {
    let looks_secret = |name: &str| {
        let name = name.to_ascii_uppercase();
        NAMES.iter().any(|part| name.contains(part))
    };
    let variables: Vec<String> = variables
        .into_iter()
        // What is no UTF-8 is in no prompt.
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, value)| looks_secret(name) && value.trim().len() >= MIN_BYTES)
        .map(|(_, value)| value)
        .collect();
    let others: Vec<&str> = others.into_iter().filter(|secret| !secret.trim().is_empty()).collect();
    let mut masker = Masker::new();
    for secrets in [variables.iter().map(String::as_str).collect(), others] {
        // None at all is an error to the masker.
        if !secrets.is_empty() {
            masker.add_all(secrets)?;
        }
    }
    Ok(masker)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_that_look_secret_are_hidden_in_all_forms() {
        let variables =
            [("OPENROUTER_API_KEY", "sk-or-12345"), ("HOME", "/home/me"), ("db_password", "hunter2!")]
                .map(|(name, value)| (name.into(), value.into()));
        let masker = secrets_of(variables, ["stored", ""]).unwrap();
        let masked = masker.mask("sk-or-12345 /home/me hunter2! stored hunter2%21");
        assert_eq!(masked, "*** /home/me *** *** ***");
        let none = secrets_of([("KEY".into(), "true".into())], []).unwrap();
        assert!(none.is_empty());
    }
}
