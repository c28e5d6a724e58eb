//! Definitions, lists, names, events: no VM runs.

use serde_json::Value;

use crate::host::World;

#[test]
fn every_command_has_help_with_an_example_and_its_exit_codes() {
    let world = World::without_images();
    let help = world.vm_ok(&["--help"]);
    let names: Vec<&str> = help
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.strip_prefix("  ")?.split(' ').next().filter(|name| !name.is_empty()))
        .collect();
    let wanted = [
        "create", "start", "stop", "restart", "rm", "ls", "status", "exec", "shell", "cp", "ssh", "logs",
        "console", "wait", "events", "ping", "qmp", "inspect", "prune",
    ];
    for name in wanted {
        assert!(names.contains(&name), "no {name} in {names:?}");
        let text = world.vm_ok(&[name, "--help"]);
        assert!(text.contains("Example:\n  "), "{name} shows no example: {text}");
        assert!(text.contains("\nEnds "), "{name} does not say how it ends: {text}");
    }
    assert_eq!(names.len(), wanted.len(), "{names:?}");
}

#[test]
fn a_definition_comes_from_files_and_flags_in_turn() {
    let world = World::new();
    world.write(
        "base.toml",
        "image = 'busybox'\ncpus = 1\nmemory = '256M'\n[labels]\nteam = 'ci'\nstage = 'a'\n",
    );
    world.write("web.yaml", "name: web\ndisk: 64\nlabels:\n  stage: b\nlimits:\n  processes: 99\n");
    let made = world.vm_json(&[
        "create",
        "-f",
        "base.toml",
        "-f",
        "web.yaml",
        "--memory",
        "128",
        "--label",
        "x=y",
        "--json",
    ]);
    let spec = &made["spec"];
    assert_eq!(
        (&spec["image"], &spec["vcpus"], &spec["memory_mib"]),
        (&"busybox".into(), &1.into(), &128.into())
    );
    assert_eq!(spec["labels"], serde_json::json!({"team": "ci", "stage": "b", "x": "y"}));
    assert_eq!(spec["limits"]["processes"], 99);
    // The keys for SSH were made with it, for its owner only, and go with it.
    let directory = world.data().join("vms").join(made["id"].as_str().unwrap());
    assert!(directory.join("ssh/known_hosts").exists());
    world.remove("web");
    assert!(!directory.exists());
}

#[test]
fn all_mistakes_of_a_definition_are_told_at_once() {
    let world = World::new();
    world.define("taken", &[]);
    world.write("bad.toml", "name = 'taken'\nimage = 'nowhere'\nmemry = 5\ncpus = 'many'\n");
    world.write(
        "bad.yaml",
        "limits:\n  cpu-percent: 1\nmounts:\n- source: /nowhere\n  target: x\n- /:/x:ro\n",
    );
    world.write("worse.toml", "a = \n");
    let args = ["create", "-f", "bad.toml", "-f", "bad.yaml", "-f", "worse.toml", "--disk", "1"];
    let said = world.vm(&args);
    let words = [
        "bad.toml:1: name: there is already a VM",
        "bad.toml:2: image: ",
        "bad.toml:3: memry: there is no such key",
        "bad.toml:4: cpus: \"many\"",
        "bad.yaml:2: limits.cpu-percent: 1: use 5 to 25600",
        "only `copy` can be had",
        "worse.toml:1: ",
        "--disk: disk: 1 MiB: use at least 64",
    ];
    said.ends(2, &words);
    assert_eq!(said.errors(), 1, "one list");
    assert_eq!(world.vm_ok(&["ls", "-q"]).lines().count(), 1, "nothing was made");
    world.vm(&["create", "--limit", "speed=9"]).ends(2, &["limits.speed", "known are cpu-percent"]);
    let said = world.vm(&["create", "--vm-type", "huge", "--disk", "1", "--label", "x"]);
    said.ends(2, &["--vm-type: vm-type: there is no VM type `huge`; these exist: ", "--disk: disk: 1 MiB"]);
    said.ends(2, &["--label: labels: \"x\" is not KEY=VALUE"]);
    assert_eq!(said.errors(), 1, "one list: {said:#?}");
    world.vm(&["create", "-f", "/dev/zero"]).ends(2, &["/dev/zero: cannot read it: it has more than 1 MiB"]);
    world.remove("taken");
}

#[test]
fn lists_are_filtered_and_formatted() {
    let world = World::new();
    let ids = [world.define("web", &["--label", "team=ci"]), world.define("db", &["--label", "team=x"])];
    assert_eq!(world.vm_ok(&["ls", "-q"]), format!("{}\n{}\n", ids[0], ids[1]));
    assert_eq!(world.vm_ok(&["ls", "-q", "--filter", "label=team=x"]), format!("{}\n", ids[1]));
    assert_eq!(world.vm_ok(&["ls", "-q", "--filter", "state=running"]), "");
    let format = "{name}\\t{state}\\t{label:team}";
    assert_eq!(world.vm_ok(&["ls", "--format", format]), "web\tcreated\tci\ndb\tcreated\tx\n");
    assert_eq!(world.vm_json(&["ls", "--json", "--filter", "name=w"]).as_array().unwrap().len(), 1);
    world.vm(&["ls", "--filter", "colour=red"]).ends(2, &["known are state"]);
    world.vm(&["ls", "--format", "{colour}"]).ends(2, &["known are id"]);
    let (said, all) = (world.vm(&["rm", "web", "gone", "db", "--json"]), ids.len());
    said.ends(2, &["there is no VM `gone`"]);
    assert_eq!(serde_json::from_str::<Value>(&said.stdout).unwrap().as_array().unwrap().len(), all);
}

#[test]
fn a_start_of_several_ids_is_refused_with_all_of_them() {
    let world = World::new();
    // Sixteen first digits: of seventeen VMs two begin alike.
    let ids: Vec<String> = (0..17).map(|n| world.define(&format!("vm{n}"), &[])).collect();
    let same = |digit: char| ids.iter().filter(|id| id.starts_with(digit)).collect::<Vec<_>>();
    let digit = "0123456789abcdef".chars().find(|digit| same(*digit).len() > 1).unwrap();
    let said = world.vm(&["status", &digit.to_string()]);
    said.ends(2, &["is the start of several ids"]);
    for id in same(digit) {
        assert!(said.stderr.contains(id.as_str()), "{id} is no candidate in {said:#?}");
    }
    assert!(world.vm_ok(&["status", &ids[0][..11]]).starts_with("vm0 "));
    for bad in ["../vms", "", "vm0/"] {
        world.vm(&["status", bad]).ends(2, &["there is no VM"]);
    }
    world.vm_ok(&["prune", "--all"]);
    assert_eq!(world.vm_ok(&["ls", "-q"]), "");
}

#[test]
fn events_are_continued_where_they_were_left() {
    let world = World::new();
    let lines = |args: &[&str]| {
        let text = world.vm_ok(&[&["events"], args].concat());
        text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(lines(&[]).len(), 0);
    let id = world.define("web", &[]);
    let first = lines(&[]);
    assert_eq!((&first[0]["state"], &first[0]["name"]), (&"created".into(), &"web".into()));
    let mut following = world.start(&["vm", "events", "--follow", "--since", "0"]);
    following.until("\"created\"");
    world.define("other", &[]);
    following.until("\"other\"");
    world.remove("web");
    following.until("\"removed\"");
    following.signal(rustix::process::Signal::INT);
    assert_eq!(following.end().0, 130);
    let rest = lines(&["--since", &first[0]["seq"].to_string()]);
    let states: Vec<&str> = rest.iter().map(|event| event["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["created", "removed"]);
    assert_eq!(lines(&[&id]).len(), 2, "a VM that is gone is named by its id");
    world.vm(&["events", "nobody"]).ends(2, &["there is no VM `nobody`"]);
    world.remove("other");
}

#[test]
fn waiting_ends_with_the_event_or_with_the_time() {
    let world = World::new();
    let id = world.define("web", &[]);
    world.vm_ok(&["wait", "--for", "stopped", "web"]);
    let want = format!("VM web ({id}) did not run within 0 seconds: it is created");
    world.vm(&["wait", "--for", "running", "web", "--timeout", "0"]).ends(124, &[&want]);
    let want = format!("VM web ({id}) did not take commands within 1 second: it is created");
    world.vm(&["wait", "web", "--timeout", "1"]).ends(124, &[&want]);
    let waiting = world.start(&["vm", "wait", "--for", "running", "web"]);
    world.remove("web");
    let (code, said) = waiting.end();
    // It may have come only after the removal.
    assert!(
        code == 3 && said.contains("was removed") || code == 2 && said.contains("there is no VM"),
        "{said}"
    );
}
