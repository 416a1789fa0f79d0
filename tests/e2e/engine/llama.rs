//! An adapter in llama.cpp's format, from the file to a paid answer: one node is given it, the other one fetches it.

use harness::{Cluster, cluster::text};
use inference::{adapter::GGUF_FILE, tiny};
use serde_json::Value;

use super::{manifest, version};

/// Both nodes serve it in the end, under the hash of the file, and a client is answered with it.
pub(super) async fn an_adapter_in_its_format_is_served_by_who_has_it_and_by_who_fetches_it(cluster: &Cluster, base: &Value) {
    let (path, base) = (cluster.path("llama.gguf"), base.as_str().expect("a version"));
    tiny::adapters::write_gguf_adapter(&path, None, 4, 11).expect("an adapter is written");
    let author = cluster.person("author");
    let published = cluster.run(author, &["adapter", "publish", text(&path), "--name", "llama", "--base", base]).await;
    let imported = cluster.run(&cluster.nodes[0], &["adapter", "import", text(&path)]).await;
    let hash = imported["hash"].as_str().expect("a hash").to_owned();
    let manifest = manifest(cluster, version(&published["version"])).await;
    let root = manifest.root().to_string();
    let serves = |status: &Value| status["manifests"].as_array().is_some_and(|all| all.iter().any(|served| served == root.as_str()));
    cluster.all_nodes(90, "serving the adapter", serves).await;
    for node in &cluster.nodes {
        let kept = std::fs::read(node.folder.join("adapters").join(&hash).join(GGUF_FILE)).expect("the file is kept");
        assert!(kept == std::fs::read(&path).expect("the file"), "{} has it byte for byte", node.name);
    }
    let asked = cluster.run(cluster.person("client"), &["ask", "--with", "llama", "--tokens", "8", "What is gout?"]).await;
    let kept = std::fs::read(asked["receipt"].as_str().expect("a receipt is kept")).expect("a bundle");
    let bundle: Value = serde_json::from_slice(&kept).expect("a bundle is JSON");
    assert_eq!(bundle["manifest"], serde_json::to_value(&manifest).expect("a manifest is JSON"), "it names the content: {hash}");
    cluster.say("an adapter in llama.cpp's format was served by two nodes");
}
