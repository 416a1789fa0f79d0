use futures::future::join_all;
use harness::{Tributary, chain};
use serde_json::{Value, json};
use types::amount::{Amount, WEI_PER_OPEN};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn probe_costs() {
    let outer = tempfile::tempdir().unwrap();
    let devnet = chain::devnet().await;
    let registry = outer.path().join("registry.json");
    devnet.deployment().write(&registry).unwrap();
    let t = Tributary::find().on(&registry, devnet.url());
    let mut parties = Vec::new();
    for n in 0..8 {
        let f = outer.path().join(format!("p{n}"));
        let made = t.run(&f, &["init", "--port", "0"]).await;
        let a: types::id::Address = made["account"].as_str().unwrap().parse().unwrap();
        parties.push((f, a));
    }
    devnet.fund(&parties.iter().map(|p| (p.1, Amount(10 * WEI_PER_OPEN))).collect::<Vec<_>>()).await.unwrap();
    let rpc = devnet.rpc();
    let bal = async |a: types::id::Address| -> u128 {
        let v: String = rpc.request("eth_getBalance", json!([a, "latest"])).await.unwrap();
        u128::from_str_radix(v.trim_start_matches("0x"), 16).unwrap()
    };
    for round in 0..6 {
        join_all(parties.iter().enumerate().map(async |(n, (f, a))| {
            let before = bal(*a).await;
            let printed = t.run(f, &["wallet", "deposit", "1000"]).await;
            let after = bal(*a).await;
            let cost: u128 = printed["transaction"]["cost_wei"].as_str().unwrap().parse().unwrap();
            let hash = printed["transaction"]["transaction"].as_str().unwrap();
            let receipt: Value = rpc.request("eth_getTransactionReceipt", json!([hash])).await.unwrap();
            let block: Value = rpc.request("eth_getBlockByNumber", json!([receipt["blockNumber"], true])).await.unwrap();
            let diff = (before - after - 1000) as i128 - cost as i128;
            println!(
                "{round} {n} diff {diff} cost {cost} gas {} price {} l1 {} base {} index {} of {} types {:?}",
                receipt["gasUsed"],
                receipt["effectiveGasPrice"],
                receipt["l1Fee"],
                block["baseFeePerGas"],
                receipt["transactionIndex"],
                block["transactions"].as_array().unwrap().len(),
                block["transactions"].as_array().unwrap().iter().map(|t| t["type"].to_string()).collect::<Vec<_>>()
            );
            if diff != 0 {
                println!("{receipt:#}");
            }
        }))
        .await;
    }
}
