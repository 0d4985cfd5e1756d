//! Tells the tests for which kind of machine they were built: cargo says it to build scripts alone.

fn main() {
    let target = std::env::var("TARGET").unwrap_or_default();
    println!("cargo:rustc-env=TIDY_TARGET={target}");
    println!("cargo:rerun-if-changed=build.rs");
}
