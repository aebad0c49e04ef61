//! Lists the files of the Python SDK for embedding (`src/sdk.rs`).

use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("../sdk/python");
    let root = root.canonicalize().expect("the SDK lies beside the runners in the repository");
    let mut files = Vec::new();
    collect(&root, &root, &mut files);
    files.sort();
    let mut list = String::from("&[\n");
    for (name, path) in &files {
        list.push_str(&format!("    ({name:?}, include_str!({path:?})),\n"));
    }
    list.push_str("]\n");
    let out = PathBuf::from(env::var("OUT_DIR").expect("cargo sets it")).join("sdk_files.rs");
    fs::write(out, list).expect("the output directory is writable");
}

fn collect(root: &Path, directory: &Path, files: &mut Vec<(String, PathBuf)>) {
    println!("cargo::rerun-if-changed={}", directory.display());
    for entry in fs::read_dir(directory).expect("the SDK is readable") {
        let path = entry.expect("the SDK is readable").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            if name != "__pycache__" && name != "tests" {
                collect(root, &path, files);
            }
        } else if name.ends_with(".py") {
            println!("cargo::rerun-if-changed={}", path.display());
            let relative = path.strip_prefix(root).expect("it was found below").to_string_lossy().into_owned();
            files.push((relative, path));
        }
    }
}
