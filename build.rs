//! Links `src/trim.c` into the dsmq command on Linux with glibc.

fn main() {
    println!("cargo:rerun-if-changed=src/trim.c");
    #[cfg(feature = "server")]
    link_trim();
}

#[cfg(feature = "server")]
fn link_trim() {
    let target = |what: &str| std::env::var(format!("CARGO_CFG_TARGET_{what}")).unwrap_or_default();
    if target("OS") == "linux" && target("ENV") == "gnu" {
        for object in cc::Build::new().file("src/trim.c").compile_intermediates() {
            println!("cargo:rustc-link-arg-bin=dsmq={}", object.display());
        }
    }
}
