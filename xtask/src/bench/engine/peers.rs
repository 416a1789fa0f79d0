//! llama.cpp beside us: its own benchmarks for one stream, a prompt and many streams, and its server for eight requests with an adapter each.

mod server;

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{Inputs, THREADS, adapters};
use crate::bench::median;
use crate::shell::{command, read};
use server::Server;

/// Names the folder of llama.cpp's programs; without it llama.cpp is not run.
pub(super) const VARIABLE: &str = "TRIBUTARY_LLAMA_CPP";
/// The programs that are needed.
const PROGRAMS: [&str; 3] = ["llama-bench", "llama-batched-bench", "llama-server"];
/// Adapters, and requests at a time.
const REQUESTS: usize = 8;

/// Where llama.cpp is.
pub(super) struct LlamaCpp {
    folder: PathBuf,
}

impl LlamaCpp {
    /// The folder that the variable names, if it is set.
    ///
    /// # Errors
    /// If a program is not there.
    pub(super) fn found() -> Result<Option<Self>> {
        let Some(folder) = std::env::var_os(VARIABLE) else { return Ok(None) };
        // Programs run in the root, wherever this command was given.
        let folder = std::path::absolute(folder)?;
        for program in PROGRAMS {
            ensure!(folder.join(program).is_file(), "{VARIABLE} is {}, which has no {program}", folder.display());
        }
        Ok(Some(Self { folder }))
    }

    fn program(&self, name: &str, inputs: &Inputs) -> Command {
        let mut command = command(self.folder.join(name));
        command.arg("--model").arg(&inputs.model).args(["--threads", THREADS]);
        command
    }

    /// 32 tokens of one stream behind 128.
    pub(super) fn stream(&self, inputs: &Inputs) -> Result<Vec<(&'static str, f64)>> {
        let rate = self.bench(inputs, &["-p", "0", "-n", "32", "-d", "128"])?;
        Ok(vec![("engine.stream_tok_s", rate), ("engine.exact_stream_tok_s", rate)])
    }

    /// A prompt of 512 tokens.
    pub(super) fn prefill(&self, inputs: &Inputs) -> Result<Vec<(&'static str, f64)>> {
        let rate = self.bench(inputs, &["-p", "512", "-n", "0"])?;
        Ok(vec![("engine.prefill512_tok_s", rate), ("engine.exact_prefill512_tok_s", rate)])
    }

    fn bench(&self, inputs: &Inputs, arguments: &[&str]) -> Result<f64> {
        let repetitions = inputs.repetitions.to_string();
        let text = read(self.program("llama-bench", inputs).args(["-o", "json", "-r", &repetitions]).args(arguments))?;
        bench_rate(&text)
    }

    /// 32 tokens of many streams behind 128 each.
    pub(super) fn batch(&self, inputs: &Inputs) -> Result<Vec<(&'static str, f64)>> {
        let mut program = self.program("llama-batched-bench", inputs);
        program.args(["-c", "8192", "-npp", "128", "-ntg", "32", "-npl", "8,16,32", "--output-format", "jsonl"]);
        let text = read(&mut program)?;
        [("engine.batch8_tok_s", 8), ("engine.batch16_tok_s", 16), ("engine.batch32_tok_s", 32)]
            .into_iter()
            .map(|(figure, streams)| Ok((figure, batched_rate(&text, streams)?)))
            .collect()
    }

    /// Eight requests with an adapter each, the files that our program was timed with.
    pub(super) fn mixed(&self, inputs: &Inputs) -> Result<Vec<(&'static str, f64)>> {
        let adapters = adapters(&inputs.adapters)?;
        ensure!(adapters.len() == REQUESTS, "{} adapters lie in {}, expected {REQUESTS}", adapters.len(), inputs.adapters.display());
        let names: Vec<_> = adapters.iter().map(|path| path.to_string_lossy()).collect();
        let mut program = self.program("llama-server", inputs);
        program.args(["-c", "4096", "-np", "8", "--lora-init-without-apply", "--lora"]).arg(names.join(","));
        let server = Server::start(&mut program)?;
        // The first time finds caches cold. A burst is eight answers, so a third of the repetitions is enough.
        server.burst(0)?;
        let rates = (1..=inputs.repetitions.div_ceil(3)).map(|burst| server.burst(burst)).collect::<Result<_>>()?;
        Ok(vec![("engine.mixed8_tok_s", median(rates))])
    }
}

/// The median of what `llama-bench -o json` measured: one test, several times.
fn bench_rate(text: &str) -> Result<f64> {
    let tests: Value = serde_json::from_str(text).context("llama-bench printed no JSON")?;
    let samples = tests.pointer("/0/samples_ts").and_then(Value::as_array).context("llama-bench printed no rates")?;
    let rates: Vec<f64> = samples.iter().filter_map(Value::as_f64).collect();
    ensure!(!rates.is_empty() && rates.len() == samples.len(), "llama-bench printed rates that are no numbers: {samples:?}");
    Ok(median(rates))
}

/// What `llama-batched-bench` generated a second with so many streams.
fn batched_rate(text: &str, streams: u64) -> Result<f64> {
    let rows = text.lines().filter_map(|line| line.find("{\"n_kv_max\"").map(|start| &line[start..]));
    for row in rows {
        let row: Value = serde_json::from_str(row.trim()).with_context(|| format!("llama-batched-bench printed {row:?}"))?;
        if row["pl"].as_u64() == Some(streams) {
            return row["speed_tg"].as_f64().context("llama-batched-bench printed no speed_tg");
        }
    }
    anyhow::bail!("llama-batched-bench printed nothing of {streams} streams")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_what_llama_bench_measured_the_median_counts() {
        let text = r#"[{"build_commit":"x","n_prompt":0,"n_gen":32,"avg_ts":240.1,"samples_ts":[ 200.5, 270.5, 250.0 ]}]"#;
        assert_eq!(bench_rate(text).unwrap(), 250.0);
        for bad in ["", "[]", "[{}]", r#"[{"samples_ts":[]}]"#, r#"[{"samples_ts":[1.0,"x"]}]"#] {
            assert!(bench_rate(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn rates_are_found_by_the_number_of_streams() {
        let text = "main: n_kv_max = 8192\n\n{\"n_kv_max\": 8192, \"pp\": 128, \"tg\": 32, \"pl\": 8, \"speed_pp\": 1000.0, \"speed_tg\": 385.5, \"speed\": 700.0}\n{\"n_kv_max\": 8192, \"pl\": 16, \"speed_tg\": 536.25}\n";
        assert_eq!((batched_rate(text, 8).unwrap(), batched_rate(text, 16).unwrap()), (385.5, 536.25));
        assert!(batched_rate(text, 32).is_err());
        assert!(batched_rate("{\"n_kv_max\": 8192, \"pl\": 8}", 8).is_err(), "a row without a rate");
        assert!(batched_rate("{\"n_kv_max\": torn", 8).is_err());
    }
}
