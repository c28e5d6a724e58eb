//! What is known of containers before a VM starts. They themselves are shown by the tests of the program: they need a guest with
//! an engine.

use terraphim_github_runner::engine::EngineError;

use crate::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_container_is_said_at_its_key_before_any_vm_starts() {
    let mut world = World::new();
    world.inputs.vm_types.engines.insert("default".to_owned());
    let error = world
        .run(
            "on: push
jobs:
  a:
    runs-on: linux
    strategy: {matrix: {x: [1, 2]}}
    container:
      image: img:1
      options: --cpus 1 --network host
    steps: [run: 'true']
  b:
    runs-on: linux
    services:
      db: {image: img:1, ports: ['80:${{ github.event_name }}']}
    steps: [run: 'true']
  c:
    needs: a
    runs-on: linux
    container: {image: img:1, ports: ['80:${{ needs.a.outputs.port }}'], volumes: ['${{ needs.a.outputs.x }}']}
    steps: [run: 'true']
  d:
    runs-on: linux
    container: img with blanks
    steps: [run: 'true']
",
        )
        .await
        .unwrap_err();
    let EngineError::Invalid(invalid) = error else { panic!("{error:?}") };
    let said: Vec<String> = invalid.diagnostics.iter().map(ToString::to_string).collect();
    let want = [
        ("(Line: 8, Col: 16)", "`container.options`: --network cannot be given"),
        ("(Line: 13, Col: ", "`services.db.ports`: \"80:push\" is no port"),
        ("(Line: 22, Col: 16)", "`container.image`: \"img with blanks\" is no name of an image"),
    ];
    assert_eq!(said.len(), want.len(), "{said:#?}");
    for (said, (place, text)) in said.iter().zip(want) {
        assert!(said.contains(place) && said.contains(text), "{said}");
    }
    assert!(world.provider.given.lock().unwrap().is_empty());
}
