//! What must be on the machine beforehand: Rust, a C compiler, Node with npm, Python. Everything else is fetched.

use anyhow::{Context, Result, bail, ensure};

use crate::shell::{answers, command, read, root};

const NODE_MAJOR_MIN: u32 = 20;
const PYTHON_MIN: (u32, u32) = (3, 9);

/// Looks at all of them, prints their versions, and names every one that is missing with what brings it.
///
/// # Errors
/// If one is missing or too old.
pub(crate) fn check() -> Result<()> {
    let found = [rust(), c_compiler(), node(), npm(), python()];
    let (mut versions, mut problems) = (Vec::new(), Vec::new());
    for tool in found {
        match tool {
            Ok(version) => versions.push(version),
            Err(error) => problems.push(format!("  {error:#}")),
        }
    }
    ensure!(problems.is_empty(), "what must be there beforehand is not:\n{}", problems.join("\n"));
    println!("{}", versions.join(", "));
    Ok(())
}

fn rust() -> Result<String> {
    let pinned = std::fs::read_to_string(root().join("rust-toolchain.toml"))?;
    let channel = pinned.lines().find_map(|line| line.strip_prefix("channel = ")).context("rust-toolchain.toml names no channel")?;
    let channel = channel.trim_matches('"');
    let rustc = read(command("rustc").arg("--version")).context("install Rust by rustup (https://rustup.rs)")?;
    ensure!(
        rustc.split(' ').nth(1) == Some(channel),
        "expected rustc {channel}, found {}; run `rustup toolchain install {channel}`",
        rustc.trim()
    );
    Ok(rustc.trim().to_owned())
}

fn c_compiler() -> Result<String> {
    ensure!(answers("cc", &["--version"]), "expected a C compiler as `cc`, found none; install gcc (Debian: apt install gcc libc6-dev)");
    let version = read(command("cc").arg("--version"))?;
    Ok(version.lines().next().unwrap_or_default().to_owned())
}

fn node() -> Result<String> {
    let found = read(command("node").arg("--version")).with_context(|| format!("install Node {NODE_MAJOR_MIN} or later"))?;
    let found = found.trim();
    let (major, _) = version(found.trim_start_matches('v'))?;
    ensure!(major >= NODE_MAJOR_MIN, "expected node {NODE_MAJOR_MIN} or later, found {found}; install a newer one (https://nodejs.org)");
    Ok(format!("node {found}"))
}

fn npm() -> Result<String> {
    let found = read(command("npm").arg("--version")).context("install npm; Node's own packages carry it, Debian's is called npm")?;
    Ok(format!("npm {}", found.trim()))
}

fn python() -> Result<String> {
    let (major, minor) = PYTHON_MIN;
    let found =
        read(command("python3").arg("--version")).with_context(|| format!("install Python {major}.{minor} or later as `python3`"))?;
    let found = found.trim();
    ensure!(
        version(found.trim_start_matches("Python "))? >= PYTHON_MIN,
        "expected Python {major}.{minor} or later as `python3`, found {found}; install a newer one"
    );
    Ok(found.to_owned())
}

/// Major and minor of a dotted version.
fn version(text: &str) -> Result<(u32, u32)> {
    let mut parts = text.split('.').map(str::parse::<u32>);
    match (parts.next(), parts.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => Ok((major, minor)),
        _ => bail!("expected a version such as 3.11.7, found {text:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_read_and_nonsense_is_refused() {
        assert_eq!(version("3.11.7").unwrap(), (3, 11));
        assert_eq!(version("20.20.2").unwrap(), (20, 20));
        assert!(version("three").is_err());
    }
}
