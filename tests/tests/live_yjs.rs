//! Yjs through the house: yjs' own tests, caps at their edges, and callers who may only read.

use guesthouse_tests::clients::{finish, node_command, text_of};
use guesthouse_tests::live;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_random_operations_of_yjs_converge_and_both_sides_write_the_same() {
    let house = live::house("");
    let Some(mut command) = node_command("live-random.mjs") else { return };
    println!("{}", text_of(&finish(command.env("HOUSE", &house.url))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn caps_hold_at_their_edges_and_no_room_is_worse_for_it() {
    let (update, structs, document, code) = (3000, 60, 5000, 1000);
    let house = live::house(&format!(
        "config = {{ max_update = \"{update}\", max_structs = \"{structs}\", max_document = \"{document}\", \
         max_code = \"{code}\" }}"
    ));
    let Some(mut command) = node_command("live-caps.mjs") else { return };
    let caps = format!("{update},{structs},{document},{code}");
    println!("{}", text_of(&finish(command.env("HOUSE", &house.url).env("CAPS", caps))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_only_read_gets_everything_changes_nothing_and_stays() {
    let house = live::house_with_auth("");
    let Some(mut command) = node_command("live-reader.mjs") else { return };
    println!("{}", text_of(&finish(command.env("HOUSE", &house.url))));
}
