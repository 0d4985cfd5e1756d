//! Writes `docs/man` anew: `cargo run -p cutover-man`.

use std::fs;
use std::io;

fn main() -> io::Result<()> {
    let folder = cutover_man::folder();
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    cutover_man::write(&folder)
}
