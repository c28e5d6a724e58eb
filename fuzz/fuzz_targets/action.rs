//! Any text as an action file.
#![no_main]

use libfuzzer_sys::fuzz_target;
use terraphim_actions::action::Action;

fuzz_target!(|text: &str| match Action::parse(text, "action.yml") {
    Ok(action) => {
        let _ = (action.input("name"), format!("{action:?}"));
    }
    Err(errors) => {
        assert!((1..=10).contains(&errors.len()), "{} errors", errors.len());
        for error in errors {
            let _ = error.render(text);
        }
    }
});
