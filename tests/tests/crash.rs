//! The house dies at every step of a deploy, and comes back with the old or the new.

use guesthouse_tests::House;
use guesthouse_tests::deploy::{build, folder, put};
use serde_json::json;

/// The places at which a house can be told to die, in their order, and which build serves afterwards.
const PLACES: [(&str, &str); 10] = [
    ("planned", "old"),
    ("file-unnamed", "old"),
    ("component-kept", "old"),
    ("code-written", "old"),
    ("code-unsealed", "old"),
    ("compiled", "old"),
    ("ready", "old"),
    ("committed", "new"),
    ("switched", "new"),
    ("collected", "new"),
];

#[test]
fn a_crash_at_any_step_of_a_deploy_leaves_the_old_or_the_new_and_nothing_to_compile() {
    for (place, serves) in PLACES {
        let (folder, component) = folder("old", "", "");
        let house = House::start_again(folder, &[], &[]);
        assert_eq!(house.get("/"), "old");
        let house = House::start_again(house.crash(), &[], &[("GUESTHOUSE_FAULT", place)]);
        put(&component, &build("new"));
        let dead = house.try_post("/v1/deployments", &json!({}));
        assert!(dead.is_err(), "the house outlived `{place}`");
        // The operator's file is not needed to come back.
        std::fs::remove_file(&component).unwrap();
        let house = House::start_again(house.into_folder(), &[], &[]);
        assert_eq!(house.get("/"), serves, "after a crash at `{place}`");
        let health = house.api("/v1/health");
        assert_eq!(health["engine"]["compilations"], 0, "after a crash at `{place}`");
        let versions = if serves == "old" { 1 } else { 2 };
        assert_eq!(health["deployment"]["plugins"], json!({"guest": versions}));
        house.wait_for_files("components", versions);
        house.wait_for_files("compiled", 2 * versions);
        // And it goes on from there.
        put(&component, &build("new"));
        house.deploy();
        assert_eq!(house.get("/"), "new");
    }
}

#[test]
fn what_was_active_comes_back_after_a_crash_and_the_difference_is_said() {
    let (folder, component) = folder("one", "", "");
    let house = House::start_again(folder, &[], &[]);
    put(&component, &build("two"));
    house.deploy();
    let (status, _) = house.post("/v1/plugins/guest/rollback", &json!({}));
    assert_eq!(status, 200);
    let house = House::start_again(house.crash(), &[], &[]);
    assert_eq!(house.get("/"), "one");
    house.wait_for_log("differs from what serves: `guest` differs in code");
    house.wait_for_log("`guesthouse deploy` applies it");
    let house = House::start_again(house.crash(), &["--deploy"], &[]);
    assert_eq!(house.get("/"), "two");
    assert_eq!(house.api("/v1/health")["engine"]["compilations"], 0);
}

#[test]
fn a_broken_configuration_of_plugins_does_not_keep_a_deployed_house_from_starting() {
    let (folder, component) = folder("one", "", "");
    let house = House::start_again(folder, &[], &[]);
    std::fs::remove_file(component).unwrap();
    house.configure("[plugins.guest]\ncomponent = \"guest.wasm\"\nroutes = [\"/*\"]\nlimts = 1\n");
    let house = House::start_again(house.crash(), &[], &[]);
    assert_eq!(house.get("/"), "one");
    house.wait_for_log("goes on as it was");
    house.wait_for_log("Did you mean `limits`?");
}
