//! A map that knows which of its entries changed, and how to write them as rows.

use std::collections::HashMap;
use std::sync::Arc;

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

/// Entries lie in a vector and are found by number: a change costs one look-up, and noting it none.
#[derive(Debug)]
pub(in crate::learning) struct Table<V> {
    kind: &'static str,
    /// When full, new keys are not taken: it bounds memory against commands that differ every time, and what is known
    /// stays known.
    max: usize,
    numbers: HashMap<Arc<str>, u32>,
    entries: Vec<Entry<V>>,
    changed: Vec<u32>,
}

#[derive(Debug)]
struct Entry<V> {
    key: Arc<str>,
    value: V,
    /// Whether its number is in `changed`.
    is_changed: bool,
}

impl<V: Default + Serialize + DeserializeOwned> Table<V> {
    pub(super) fn new(kind: &'static str, max: u32) -> Table<V> {
        let max = max as usize;
        Table { kind, max, numbers: HashMap::new(), entries: Vec::new(), changed: Vec::new() }
    }

    pub(in crate::learning) fn get(&self, key: &str) -> Option<&V> {
        self.numbers.get(key).map(|number| &self.entries[*number as usize].value)
    }

    pub(in crate::learning) fn iter(&self) -> impl Iterator<Item = (&str, &V)> {
        self.entries.iter().map(|entry| (&*entry.key, &entry.value))
    }

    /// The entry to change, made when it is new; `None` when the table is full.
    pub(super) fn change(&mut self, key: &str) -> Option<&mut V> {
        let number = match self.numbers.get(key) {
            Some(number) => *number,
            None if self.entries.len() >= self.max => return None,
            None => self.insert(Arc::from(key), V::default()),
        };
        Some(self.changed(number))
    }

    /// The entry to change if there is one.
    pub(super) fn change_known(&mut self, key: &str) -> Option<&mut V> {
        let number = *self.numbers.get(key)?;
        Some(self.changed(number))
    }

    pub(super) fn load(&mut self, key: String, value: &str) -> Result<(), serde_json::Error> {
        let value = serde_json::from_str(value)?;
        match self.numbers.get(key.as_str()) {
            Some(number) => self.entries[*number as usize].value = value,
            None => {
                self.insert(key.into(), value);
            }
        }
        Ok(())
    }

    pub(super) fn take_changes(&mut self) -> Vec<FactRow> {
        let changed = std::mem::take(&mut self.changed);
        changed
            .into_iter()
            .map(|number| {
                self.entries[number as usize].is_changed = false;
                self.row(&self.entries[number as usize])
            })
            .collect()
    }

    pub(super) fn rows(&self) -> Vec<FactRow> {
        self.entries.iter().map(|entry| self.row(entry)).collect()
    }

    fn insert(&mut self, key: Arc<str>, value: V) -> u32 {
        let number = u32::try_from(self.entries.len()).expect("fewer than `max` entries, which is a u32");
        self.numbers.insert(Arc::clone(&key), number);
        self.entries.push(Entry { key, value, is_changed: false });
        number
    }

    fn changed(&mut self, number: u32) -> &mut V {
        let entry = &mut self.entries[number as usize];
        if !std::mem::replace(&mut entry.is_changed, true) {
            self.changed.push(number);
        }
        &mut entry.value
    }

    fn row(&self, entry: &Entry<V>) -> FactRow {
        let value = serde_json::to_string(&entry.value).expect("facts are plain data");
        FactRow { kind: self.kind.to_owned(), key: entry.key.to_string(), value }
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
