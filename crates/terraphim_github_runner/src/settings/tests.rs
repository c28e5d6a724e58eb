use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use zeroize::Zeroizing;

use super::*;

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn set(store: &SettingsStore, kind: Kind, scope: &SettingsScope, pairs: &[(&str, &str)]) {
    let values: Vec<_> =
        pairs.iter().map(|(key, value)| (name(key), Zeroizing::new((*value).to_owned()))).collect();
    store.set(kind, scope, &values, 7).unwrap();
}

#[test]
fn an_environment_is_stronger_than_its_repository_and_that_than_its_owner() {
    let data = tempfile::tempdir().unwrap();
    let store = SettingsStore::new(data.path());
    let owner = SettingsScope::organisation("acme").unwrap();
    let repository = SettingsScope::repository("Acme/Rocket").unwrap();
    let environment = SettingsScope::environment("acme/rocket", "Production").unwrap();
    let other = SettingsScope::repository("acme/other").unwrap();
    for kind in [Kind::Secret, Kind::Variable] {
        set(&store, kind, &owner, &[("a", "owner"), ("B", "owner")]);
        set(&store, kind, &repository, &[("b", "repository")]);
        set(&store, kind, &environment, &[("C", "environment")]);
        set(&store, kind, &other, &[("D", "other")]);
    }
    let settings = store.for_run("ACME/rocket").unwrap();
    let secrets: Vec<(&str, &str)> =
        settings.secrets.iter().map(|(name, secret)| (name.as_str(), secret.expose())).collect();
    assert_eq!(secrets, [("A", "owner"), ("B", "repository")]);
    assert_eq!(settings.vars["B"], "repository");
    assert_eq!(settings.environments["production"].secrets["C"].expose(), "environment");
    assert_eq!(settings.environments["production"].vars["C"], "environment");
    assert_eq!(settings.environments.len(), 1);
    assert!(store.for_run("nobody/nothing").unwrap().secrets.is_empty());
    let mut all: Vec<String> =
        store.all_secrets("acme/ROCKET").unwrap().iter().map(|secret| secret.expose().to_owned()).collect();
    all.sort_unstable();
    assert_eq!(all, ["environment", "owner", "owner", "repository"], "hidden ones too, none of others");
}

#[test]
fn nothing_on_disk_shows_a_secret_and_only_its_owner_reads_it() {
    let data = tempfile::tempdir().unwrap();
    let store = SettingsStore::new(data.path());
    let scope = SettingsScope::repository("a/b").unwrap();
    set(&store, Kind::Secret, &scope, &[("TOKEN", "correct horse battery staple")]);
    for entry in std::fs::read_dir(data.path().join("settings")).unwrap() {
        let entry = entry.unwrap();
        let text = String::from_utf8_lossy(&std::fs::read(entry.path()).unwrap()).into_owned();
        assert!(!text.contains("horse"), "{:?}", entry.path());
        if entry.file_name() != "lock" {
            assert_eq!(entry.metadata().unwrap().mode() & 0o777, 0o600, "{:?}", entry.path());
        }
    }
    assert_eq!(std::fs::metadata(data.path().join("settings")).unwrap().mode() & 0o777, 0o700);
    let entries = store.list(Kind::Secret, &scope).unwrap();
    assert_eq!(entries, [Entry { name: "TOKEN".into(), updated_at_ms: 7, value: None }]);
}

#[test]
fn a_secret_cannot_be_put_in_another_s_place() {
    let data = tempfile::tempdir().unwrap();
    let store = SettingsStore::new(data.path());
    let scope = SettingsScope::repository("a/b").unwrap();
    set(&store, Kind::Secret, &scope, &[("LOW", "l"), ("HIGH", "h")]);
    let path = data.path().join("settings/settings.json");
    let mut json: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let secrets = &mut json["scopes"]["repository:a/b"]["secrets"];
    let high = secrets["HIGH"]["value"].clone();
    secrets["LOW"]["value"] = high;
    std::fs::write(&path, json.to_string()).unwrap();
    let error = store.for_run("a/b").unwrap_err();
    assert!(matches!(&error, SettingsError::Undecipherable { name, .. } if name == "LOW"), "{error}");
}

#[test]
fn a_lost_open_or_broken_key_is_named_and_never_replaced() {
    let data = tempfile::tempdir().unwrap();
    let store = SettingsStore::new(data.path());
    let scope = SettingsScope::repository("a/b").unwrap();
    set(&store, Kind::Secret, &scope, &[("A", "1")]);
    let key = data.path().join("settings/key");
    let bytes = std::fs::read(&key).unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(matches!(store.for_run("a/b"), Err(SettingsError::OpenKey { mode: 0o644, .. })));
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::write(&key, &bytes[..31]).unwrap();
    assert!(matches!(store.for_run("a/b"), Err(SettingsError::BadKey { .. })));
    std::fs::remove_file(&key).unwrap();
    let value = [(name("B"), Zeroizing::new("2".to_owned()))];
    assert!(matches!(store.set(Kind::Secret, &scope, &value, 0), Err(SettingsError::NoKey { .. })));
    assert!(!key.exists());
    assert!(matches!(store.for_run("a/b"), Err(SettingsError::NoKey { .. })));
}

#[test]
fn bad_names_values_scopes_and_files_are_refused() {
    for bad in ["", "1A", "A-B", "A B", "GITHUB_TOKEN", "github_x", "Ä", "A\n", &"A".repeat(256)] {
        assert!(matches!(Name::new(bad), Err(SettingsError::Name { .. })), "{bad:?}");
    }
    for bad in ["", "a", "a/", "/b", "a/b/c", "a b/c", "../b", "a/.."] {
        assert!(matches!(SettingsScope::repository(bad), Err(SettingsError::Scope { .. })), "{bad:?}");
    }
    assert!(SettingsScope::environment("a/b", "  ").is_err());
    assert!(SettingsScope::environment("a/b", "x\ny").is_err());
    let data = tempfile::tempdir().unwrap();
    let store = SettingsStore::new(data.path());
    let scope = SettingsScope::repository("a/b").unwrap();
    let set = |text: String| store.set(Kind::Secret, &scope, &[(name("A"), Zeroizing::new(text))], 0);
    assert!(matches!(set(String::new()), Err(SettingsError::Empty { .. })));
    assert!(matches!(set("x".repeat(48 * 1024 + 1)), Err(SettingsError::TooLong { size: 49153, .. })));
    assert!(!data.path().join("settings").exists(), "what is refused leaves nothing");
    set("x".repeat(48 * 1024)).unwrap();
    let path = data.path().join("settings/settings.json");
    for (content, newer) in
        [("{", false), ("{\"version\": 2}", true), ("{\"version\": 1, \"scopes\": 3}", false)]
    {
        std::fs::write(&path, content).unwrap();
        let error = store.for_run("a/b").unwrap_err();
        assert_eq!(matches!(error, SettingsError::Newer { version: 2, .. }), newer, "{content}: {error}");
        assert!(store.list(Kind::Secret, &scope).is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), content);
    }
}

#[test]
fn what_is_removed_is_gone() {
    let data = tempfile::tempdir().unwrap();
    let store = SettingsStore::new(data.path());
    let scope = SettingsScope::repository("a/b").unwrap();
    assert!(!store.remove(Kind::Secret, &scope, &name("A")).unwrap());
    assert!(!data.path().join("settings").exists());
    set(&store, Kind::Secret, &scope, &[("A", "1"), ("B", "2")]);
    assert!(store.remove(Kind::Secret, &scope, &name("a")).unwrap());
    assert!(!store.remove(Kind::Variable, &scope, &name("B")).unwrap());
    assert_eq!(store.list(Kind::Secret, &scope).unwrap().len(), 1);
}

#[test]
fn writers_at_once_lose_nothing() {
    let data = tempfile::tempdir().unwrap();
    let scope = SettingsScope::repository("a/b").unwrap();
    std::thread::scope(|threads| {
        for thread in 0..8 {
            let (store, scope) = (SettingsStore::new(data.path()), &scope);
            threads.spawn(move || {
                for number in 0..5 {
                    set(&store, Kind::Secret, scope, &[(&format!("S{thread}_{number}"), "value")]);
                }
            });
        }
    });
    assert_eq!(SettingsStore::new(data.path()).for_run("a/b").unwrap().secrets.len(), 40);
}
