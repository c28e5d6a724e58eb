//! The id of a VM.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Twelve lower-case hexadecimal digits, made by the host; the only thing that file paths are built from.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VmId(String);

/// A string that is no [`VmId`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{0}` is no VM id: twelve hexadecimal digits are expected")]
pub struct BadVmId(String);

impl VmId {
    /// A new random id.
    #[must_use]
    pub fn random() -> VmId {
        let mut text = uuid::Uuid::new_v4().simple().to_string();
        text.truncate(12);
        VmId(text)
    }

    /// The digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for VmId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for VmId {
    type Err = BadVmId;

    fn from_str(text: &str) -> Result<VmId, BadVmId> {
        let good = text.len() == 12 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if good { Ok(VmId(text.to_owned())) } else { Err(BadVmId(text.to_owned())) }
    }
}

impl TryFrom<String> for VmId {
    type Error = BadVmId;

    fn try_from(text: String) -> Result<VmId, BadVmId> {
        text.parse()
    }
}

impl From<VmId> for String {
    fn from(id: VmId) -> String {
        id.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_made_ids_are_ids() {
        let id = VmId::random();
        assert_eq!(id.to_string().parse(), Ok(id));
        for bad in ["", "../../../etc", "0123456789AB", "0123456789abc", "0123456789a/"] {
            assert!(bad.parse::<VmId>().is_err(), "{bad}");
        }
    }
}
