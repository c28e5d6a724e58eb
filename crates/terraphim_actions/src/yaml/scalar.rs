//! Plain scalars to values, by the core schema of YAML 1.2 as GitHub reads it: `yes` is a string,
//! `010` is ten, every number a double.

/// A scalar.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Scalar {
    Null,
    Bool(bool),
    Num(f64),
    Str(String),
}

const TAG: &str = "tag:yaml.org,2002:";

/// Where and how a scalar was written.
pub(super) struct Written<'a> {
    pub(super) text: &'a str,
    pub(super) tag: Option<&'a str>,
    pub(super) style: Style,
    pub(super) line: u32,
    pub(super) col: u32,
}

/// The style of a scalar, named as GitHub's messages name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    Plain,
    SingleQuoted,
    DoubleQuoted,
    Literal,
    Folded,
}

impl Written<'_> {
    /// The value.
    ///
    /// # Errors
    /// If the tag is unknown or does not fit the text; the message is GitHub's.
    pub(super) fn resolve(&self) -> Result<Scalar, String> {
        match self.tag {
            None if self.style == Style::Plain => self.plain(),
            None => Ok(Scalar::Str(self.text.to_owned())),
            Some(tag) => self.tagged(tag),
        }
    }

    fn tagged(&self, tag: &str) -> Result<Scalar, String> {
        let kind = tag.strip_prefix(TAG).unwrap_or(tag);
        if kind == "str" && tag.len() > kind.len() {
            return Ok(Scalar::Str(self.text.to_owned()));
        }
        if self.style != Style::Plain {
            let Self { style, line, col, .. } = self;
            return Err(format!(
                "The scalar style '{style:?}' on line {line} and column {col} is not valid with the tag '{tag}'"
            ));
        }
        let value = match tag.strip_prefix(TAG) {
            Some("bool") => boolean(self.text).map(Scalar::Bool),
            Some("float") => float(self.text).map(Scalar::Num),
            Some("int") => self.integer()?.map(Scalar::Num),
            Some("null") => is_null(self.text).then_some(Scalar::Null),
            _ => return Err(format!("Unexpected tag '{tag}'")),
        };
        value.ok_or_else(|| self.invalid(tag))
    }

    fn plain(&self) -> Result<Scalar, String> {
        if is_null(self.text) {
            return Ok(Scalar::Null);
        }
        if let Some(value) = boolean(self.text) {
            return Ok(Scalar::Bool(value));
        }
        if let Some(number) = self.integer()?.or_else(|| float(self.text)) {
            return Ok(Scalar::Num(number));
        }
        Ok(Scalar::Str(self.text.to_owned()))
    }

    fn invalid(&self, tag: &str) -> String {
        let Self { text, line, col, .. } = self;
        format!("The value '{text}' on line {line} and column {col} is invalid for the type '{tag}'")
    }

    /// A whole number: decimal with a sign, or `0x` and `0o` of at most 32 bits.
    fn integer(&self) -> Result<Option<f64>, String> {
        let unsigned = self.text.strip_prefix(['-', '+']).unwrap_or(self.text);
        if !unsigned.is_empty() && unsigned.bytes().all(|b| b.is_ascii_digit()) {
            return Ok(self.text.parse().ok());
        }
        let (digits, radix) = match (self.text.strip_prefix("0x"), self.text.strip_prefix("0o")) {
            (Some(digits), _) => (digits, 16),
            (_, Some(digits)) => (digits, 8),
            _ => return Ok(None),
        };
        if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
            return Ok(None);
        }
        match u32::from_str_radix(digits, radix) {
            Ok(bits) => Ok(Some(f64::from(bits.cast_signed()))),
            Err(_) => Err(self.invalid(&format!("{TAG}int"))),
        }
    }
}

fn is_null(text: &str) -> bool {
    matches!(text, "" | "null" | "Null" | "NULL" | "~")
}

fn boolean(text: &str) -> Option<bool> {
    match text {
        "true" | "True" | "TRUE" => Some(true),
        "false" | "False" | "FALSE" => Some(false),
        _ => None,
    }
}

/// `[-+]? ( . digits | digits ( . digits? )? ) ( [eE] [-+]? digits )?` or one of the words.
fn float(text: &str) -> Option<f64> {
    match text {
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => return Some(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => return Some(f64::NEG_INFINITY),
        ".nan" | ".NaN" | ".NAN" => return Some(f64::NAN),
        _ => {}
    }
    let numeric = |b: u8| b.is_ascii_digit() || matches!(b, b'+' | b'-' | b'.' | b'e' | b'E');
    // Rust's own grammar is the same once its words are out; it starts with a sign, digit or point.
    if text.bytes().all(numeric) { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(text: &str) -> Scalar {
        Written { text, tag: None, style: Style::Plain, line: 1, col: 1 }.resolve().expect("a value")
    }

    #[test]
    fn the_core_schema_and_nothing_more() {
        for text in
            ["yes", "on", "1_000", "0b1", "1e", "-", ".", "0x", "0o9", "nul", "2001-12-14", "1.2.3", "-0x1"]
        {
            assert_eq!(plain(text), Scalar::Str(text.to_owned()));
        }
        for (text, number) in
            [("010", 10.0), ("0x1F", 31.0), ("0o17", 15.0), ("1.", 1.0), (".5", 0.5), ("+3e2", 300.0)]
        {
            assert_eq!(plain(text), Scalar::Num(number), "{text}");
        }
        assert_eq!(plain("~"), Scalar::Null);
        assert_eq!(plain("True"), Scalar::Bool(true));
    }

    #[test]
    fn explicit_tags_must_fit() {
        let written = |tag, style| Written { text: "12", tag: Some(tag), style, line: 3, col: 4 };
        assert_eq!(written("tag:yaml.org,2002:str", Style::Plain).resolve(), Ok(Scalar::Str("12".into())));
        assert!(written("tag:yaml.org,2002:bool", Style::Plain).resolve().is_err());
        let error = written("tag:yaml.org,2002:int", Style::SingleQuoted).resolve().unwrap_err();
        assert!(error.contains("'SingleQuoted' on line 3 and column 4"), "{error}");
        assert!(written("!mine", Style::Plain).resolve().is_err());
    }
}
