//! JUnit XML, wherever it stands in an output (`cat report.xml`).

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

use super::{Found, TestOutcome};

pub(super) fn read(output: &str, found: &mut Found) {
    let mut rest = output;
    // Each report ends at its own mistakes; what follows may be the next one.
    while let Some(at) = rest.find("<testsuite") {
        let end = rest[at..].find("</testsuites>").or_else(|| rest[at..].find("</testsuite>"));
        let end = end.map_or(rest.len(), |end| at + end);
        suite(&rest[at..end], found);
        rest = &rest[end..];
        if rest.is_empty() {
            return;
        }
        rest = &rest[1..];
    }
}

fn suite(xml: &str, found: &mut Found) {
    let mut reader = Reader::from_str(xml);
    let mut test: Option<(String, TestOutcome)> = None;
    loop {
        match reader.read_event() {
            Ok(Event::Empty(tag)) if tag.name().as_ref() == "testcase" => {
                found.add(&name(&tag), TestOutcome::Passed);
            }
            Ok(Event::Start(tag)) if tag.name().as_ref() == "testcase" => {
                test = Some((name(&tag), TestOutcome::Passed));
            }
            Ok(Event::Start(tag) | Event::Empty(tag)) => {
                if let Some((_, outcome)) = &mut test {
                    match tag.name().as_ref() {
                        "failure" | "error" => *outcome = TestOutcome::Failed,
                        "skipped" => *outcome = TestOutcome::Skipped,
                        _ => {}
                    }
                }
            }
            Ok(Event::End(tag)) if tag.name().as_ref() == "testcase" => {
                if let Some((name, outcome)) = test.take() {
                    found.add(&name, outcome);
                }
            }
            Ok(Event::Eof) | Err(_) => return,
            Ok(_) => {}
        }
    }
}

fn name(tag: &BytesStart<'_>) -> String {
    let attribute = |wanted: &str| {
        let found = tag.try_get_attribute(wanted).ok().flatten()?;
        let plain = quick_xml::escape::unescape(&found.value).map(std::borrow::Cow::into_owned);
        // An unknown entity stays as it is written.
        Some(plain.unwrap_or_else(|_| found.value.clone().into_owned()))
    };
    let name = attribute("name").unwrap_or_default();
    match attribute("classname").filter(|class| !class.is_empty()) {
        Some(class) => format!("{class}.{name}"),
        None => name,
    }
}
