//! The schemas that the crate comes with.

use super::Schema;
use std::sync::LazyLock;

/// Workflow files.
pub(crate) static WORKFLOW: LazyLock<Schema> = LazyLock::new(|| {
    Schema::parse(include_str!("workflow.schema")).expect("a test reads the workflow schema")
});

/// `action.yml` files.
pub(crate) static ACTION: LazyLock<Schema> =
    LazyLock::new(|| Schema::parse(include_str!("action.schema")).expect("a test reads the action schema"));

#[cfg(test)]
mod tests {
    #[test]
    fn the_schemas_are_sound() {
        assert!(super::WORKFLOW.get("workflow").is_some());
        assert!(super::ACTION.get("action").is_some());
    }

    #[test]
    fn every_key_is_documented() {
        let page = include_str!("../../../../docs/workflow-syntax.md");
        let keys = super::WORKFLOW.all_keys();
        let missing: Vec<&str> = keys.into_iter().filter(|key| !page.contains(&format!("`{key}`"))).collect();
        assert_eq!(missing, Vec::<&str>::new());
    }
}
