//! The pages in `docs/man` are those that the programs would write now.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

fn pages(folder: &Path) -> BTreeMap<String, String> {
    let entries = fs::read_dir(folder).expect("the folder is there");
    entries
        .map(|entry| {
            let entry = entry.expect("the folder can be read");
            let text = fs::read_to_string(entry.path()).expect("a page can be read");
            (entry.file_name().to_string_lossy().into_owned(), text)
        })
        .collect()
}

#[test]
fn the_man_pages_say_what_help_says() {
    let fresh = Path::new(env!("CARGO_TARGET_TMPDIR")).join("pages");
    let _ = fs::remove_dir_all(&fresh);
    fs::create_dir_all(&fresh).expect("a folder");
    cutover_man::write(&fresh).expect("the pages are written");
    let (now, kept) = (pages(&fresh), pages(&cutover_man::folder()));
    let stale: Vec<&String> = now
        .keys()
        .chain(kept.keys())
        .filter(|name| now.get(*name) != kept.get(*name))
        .collect();
    assert!(
        stale.is_empty(),
        "not current: {stale:?}; run: cargo run -p cutover-man"
    );
    for program in ["cutover.1", "cutover-agent.1", "cutover-coordinator.1"] {
        assert!(now.contains_key(program), "{program} is not there");
    }
}
