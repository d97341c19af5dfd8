//! Compresses the descriptions of Kubernetes' types, which would be a twentieth of the program.

use std::env;
use std::fs;
use std::io::Write;
use std::path::PathBuf;

use flate2::Compression;
use flate2::write::DeflateEncoder;

const SOURCE: &str = "schema/descriptions.txt";

fn main() {
    println!("cargo:rerun-if-changed={SOURCE}");
    let text = fs::read(SOURCE).expect("the table of descriptions is readable");
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(&text).expect("memory takes everything");
    let packed = encoder.finish().expect("memory takes everything");
    let out = PathBuf::from(env::var("OUT_DIR").expect("set by cargo")).join("descriptions.deflate");
    fs::write(out, packed).expect("OUT_DIR is writable");
}
