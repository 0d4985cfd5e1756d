//! Compiles every `.proto` below `cutover/v1/`, without protoc.

use std::path::PathBuf;
use std::{env, fs};

const FOLDER: &str = "cutover/v1";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let mut files = Vec::new();
    for entry in fs::read_dir(root.join(FOLDER))? {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "proto")
        {
            files.push(path);
        }
    }
    files.sort(); // so that the generated code is the same everywhere
    let descriptors = protox::compile(&files, [&root])?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    println!("cargo:rerun-if-changed={FOLDER}");
    Ok(())
}
