//! Tells the program which str0m it was built with: the version in the lock file.

fn main() {
    let lock = std::fs::read_to_string("Cargo.lock").unwrap_or_default();
    let after = lock.split("name = \"str0m\"\nversion = \"").nth(1).unwrap_or("?\"");
    println!("cargo:rustc-env=STR0M_VERSION={}", after.split('"').next().unwrap_or("?"));
    println!("cargo:rerun-if-changed=Cargo.lock");
}
