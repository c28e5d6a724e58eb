//! A map that knows which of its entries changed, and how to write them as rows.

use std::collections::{HashMap, HashSet};

use serde::{Serialize, de::DeserializeOwned};

/// One fact of a model as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, serde::Deserialize)]
pub struct FactRow {
    /// Which table of the model.
    pub kind: String,
    /// The key in the table.
    pub key: String,
    /// The fact as JSON.
    pub value: String,
}

#[derive(Debug)]
pub(in crate::learning) struct Table<V> {
    kind: &'static str,
    /// When full, new keys are not taken: it bounds memory against commands that differ every time, and what is known
    /// stays known.
    max: usize,
    map: HashMap<String, V>,
    changed: HashSet<String>,
}

impl<V: Default + Serialize + DeserializeOwned> Table<V> {
    pub(super) fn new(kind: &'static str, max: usize) -> Table<V> {
        Table { kind, max, map: HashMap::new(), changed: HashSet::new() }
    }

    pub(in crate::learning) fn get(&self, key: &str) -> Option<&V> {
        self.map.get(key)
    }

    pub(in crate::learning) fn iter(&self) -> impl Iterator<Item = (&str, &V)> {
        self.map.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// The entry to change, made when it is new; `None` when the table is full.
    pub(super) fn change(&mut self, key: &str) -> Option<&mut V> {
        if !self.changed.contains(key) {
            if !self.map.contains_key(key) && self.map.len() >= self.max {
                return None;
            }
            self.changed.insert(key.to_owned());
        }
        if !self.map.contains_key(key) {
            self.map.insert(key.to_owned(), V::default());
        }
        self.map.get_mut(key)
    }

    /// The entry to change if there is one.
    pub(super) fn change_known(&mut self, key: &str) -> Option<&mut V> {
        if self.map.contains_key(key) { self.change(key) } else { None }
    }

    pub(super) fn load(&mut self, key: String, value: &str) -> Result<(), serde_json::Error> {
        self.map.insert(key, serde_json::from_str(value)?);
        Ok(())
    }

    pub(super) fn take_changes(&mut self) -> Vec<FactRow> {
        let changed = std::mem::take(&mut self.changed);
        changed.into_iter().filter_map(|key| self.map.get(&key).map(|value| self.row(&key, value))).collect()
    }

    pub(super) fn rows(&self) -> Vec<FactRow> {
        self.map.iter().map(|(key, value)| self.row(key, value)).collect()
    }

    fn row(&self, key: &str, value: &V) -> FactRow {
        let value = serde_json::to_string(value).expect("facts are plain data");
        FactRow { kind: self.kind.to_owned(), key: key.to_owned(), value }
    }
}

/// Writes a number with all its bits. The decimal form of JSON need not come back as it went.
pub(super) mod bits {
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(in super::super) fn serialize<S: Serializer>(number: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(number.to_bits())
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        u64::deserialize(deserializer).map(f64::from_bits)
    }
}
