//! Strings as execve(2) wants them.

use std::ffi::{CStr, c_char};

/// Any number of strings, each with a NUL at its end, in one piece of memory: a step has some forty variables, and an
/// emulated guest feels an allocation for each.
#[derive(Debug, Default)]
pub(super) struct Texts {
    bytes: Vec<u8>,
    starts: Vec<usize>,
}

impl Texts {
    /// Adds the string that these parts are together; `None` when there is a NUL in it.
    pub(super) fn push(&mut self, parts: &[&str]) -> Option<()> {
        self.starts.push(self.bytes.len());
        for part in parts {
            if part.as_bytes().contains(&0) {
                return None;
            }
            self.bytes.extend_from_slice(part.as_bytes());
        }
        self.bytes.push(0);
        Some(())
    }

    /// Where each begins, in their order. The memory is that of `self`.
    pub(super) fn pointers(&self) -> Vec<*const c_char> {
        self.iter().map(CStr::as_ptr).collect()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &CStr> {
        let text = |start: &usize| CStr::from_bytes_until_nul(self.bytes.get(*start..)?).ok();
        self.starts.iter().filter_map(text)
    }

    #[cfg(test)]
    pub(super) fn to_strings(&self) -> Vec<String> {
        self.iter().map(|text| text.to_str().unwrap().to_owned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_pushed_comes_back_whatever_its_length() {
        let mut texts = Texts::default();
        for parts in [&["A", "=", "1"][..], &[""], &[], &["x"]] {
            texts.push(parts).unwrap();
        }
        assert_eq!(texts.to_strings(), ["A=1", "", "", "x"]);
        assert_eq!(texts.pointers().len(), 4);
        assert!(texts.push(&["a", "b\0c"]).is_none());
    }
}
