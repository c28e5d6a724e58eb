//! `tci token`: records of tokens, damaged ones among them.

use std::fs;

use serde_json::Value;

use crate::fixture::World;

#[test]
fn a_damaged_token_is_named_listed_beside_and_can_be_taken_back() {
    let world = World::new();
    world.run(&["token", "create", "alice"]).prints(&[]);
    world.run(&["token", "create", "bob"]).prints(&[]);
    let tokens: Value = serde_json::from_str(&world.run(&["token", "ls", "--json"]).stdout).unwrap();
    let bob = tokens.as_array().unwrap().iter().find(|token| token["user_id"] == "bob").unwrap();
    let bob = bob["id"].as_str().unwrap();
    let file = world.data().join("api/tokens").join(format!("{bob}.json"));
    fs::write(&file, "{").unwrap();
    for args in [&["token", "ls"][..], &["token", "ls", "--json"]] {
        let said = world.run(args);
        assert_eq!(said.code, 3, "{said:#?}");
        assert!(said.stdout.contains("alice") && !said.stdout.contains("bob"), "{said:#?}");
        for words in [file.to_str().unwrap(), "is damaged", &format!("tci token revoke {bob}")] {
            assert!(said.stderr.contains(words), "no {words:?} in {said:#?}");
        }
    }
    // It may be one of hers as well, as far as anybody knows.
    let said = world.run(&["token", "revoke", "--user", "alice"]);
    assert_eq!(said.code, 3, "{said:#?}");
    assert!(said.stderr.contains("is damaged"), "{said:#?}");
    world.run(&["token", "revoke", bob]).prints(&[bob]);
    let said = world.run(&["token", "ls"]);
    assert_eq!((said.code, said.stdout.matches("revoked").count()), (0, 2), "{said:#?}");
    assert_eq!(said.stderr, "");
}
