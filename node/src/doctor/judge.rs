//! From facts to findings: one for each check, whatever was found. Pure: the same facts give the same words.

mod chain;
mod files;
mod host;
mod network;

use super::{Check, Finding, Level, facts::Facts};

/// One finding for each of [`Check::ALL`], in its order.
pub fn judge(facts: &Facts) -> Vec<Finding> {
    Check::ALL.into_iter().map(|check| verdict(check, facts).named(check)).collect()
}

fn verdict(check: Check, facts: &Facts) -> Verdict {
    match check {
        Check::DataFolder => files::folder(&facts.files),
        Check::DataLock => files::lock(&facts.files),
        Check::NodeAlive => files::alive(&facts.files),
        Check::ConfigFile => files::config(&facts.files),
        Check::ConfigValues => files::values(&facts.files),
        Check::KeyModes => files::key_modes(&facts.files),
        Check::NodeSeed => files::seed(&facts.files),
        Check::Wallet => files::wallet(&facts.files),
        Check::RegistryFile => files::registry(&facts.files),
        Check::RefusedFile => files::refused(&facts.files),
        Check::PeersFile => files::remembered(&facts.files),
        Check::OpenFiles => host::open_files(&facts.system),
        Check::Memory => host::memory(facts),
        Check::Processor => host::processor(&facts.system),
        Check::Gpu => host::gpu(&facts.system),
        Check::DiskFree => host::disk_free(facts),
        Check::DiskWrite => host::disk_write(&facts.system),
        Check::ModelFile => host::model_file(facts),
        Check::ModelHash => host::model_hash(facts),
        Check::Adapters => host::adapters(facts),
        Check::PortsDistinct => network::distinct(facts),
        Check::PortsFree => network::free(facts),
        Check::AddressesOwn => network::own(facts),
        Check::Reachable => network::reachable(facts),
        Check::Bootstrap => network::bootstrap(facts),
        Check::Udp => network::udp(facts),
        Check::Mtu => network::mtu(facts),
        Check::UdpBuffers => network::buffers(facts),
        Check::Rpc => chain::rpc(facts),
        Check::Clock => chain::clock(facts),
        Check::ChainId => chain::id(facts),
        Check::Contracts => chain::contracts(facts),
        Check::ContractCode => chain::code(facts),
        Check::Heads => chain::heads(facts),
        Check::HeadAge => chain::head_age(facts),
        Check::Pace => chain::pace(facts),
        Check::FinalBlock => chain::final_block(facts),
        Check::Logs => chain::logs(facts),
        Check::History => chain::history(facts),
        Check::Binding => chain::binding(facts),
        Check::Stake => chain::stake(facts),
        Check::Gas => chain::gas(facts),
    }
}

/// A finding without its name.
struct Verdict {
    level: Level,
    said: String,
    fix: Option<String>,
}

impl Verdict {
    fn named(self, check: Check) -> Finding {
        Finding { check, level: self.level, said: self.said, fix: self.fix }
    }
}

fn good(said: impl Into<String>) -> Verdict {
    Verdict { level: Level::Good, said: said.into(), fix: None }
}

fn warn(said: impl Into<String>, fix: impl Into<String>) -> Verdict {
    Verdict { level: Level::Warn, said: said.into(), fix: Some(fix.into()) }
}

fn bad(said: impl Into<String>, fix: impl Into<String>) -> Verdict {
    Verdict { level: Level::Bad, said: said.into(), fix: Some(fix.into()) }
}

fn unknown(said: impl Into<String>) -> Verdict {
    Verdict { level: Level::Unknown, said: said.into(), fix: None }
}

/// Not looked at, because the configuration is not read.
fn unconfigured() -> Verdict {
    unknown("not looked at: the configuration is not read")
}
