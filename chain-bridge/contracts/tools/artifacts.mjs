#!/usr/bin/env node
// Writes artifacts/<Name>.json, the compact form of a fresh compile that the Rust bindings read.
// usage: node tools/artifacts.mjs            writes
//        node tools/artifacts.mjs --check    fails, naming each contract whose committed file differs
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { forge } from './forge.mjs';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const folder = join(root, 'artifacts');

/** Every contract that is deployed, and the probes that other implementations are held against, with the file that defines it. */
const CONTRACTS = {
  AnswerVerifier: 'AnswerVerifier.sol',
  AssetRegistry: 'AssetRegistry.sol',
  AuditCase: 'AuditCase.sol',
  AuditRent: 'AuditRent.sol',
  BillingVerifier: 'BillingVerifier.sol',
  CheckBoard: 'CheckBoard.sol',
  DatanetRent: 'DatanetRent.sol',
  DatanetTreasury: 'DatanetTreasury.sol',
  Erasures: 'Erasures.sol',
  FraudVerifier: 'FraudVerifier.sol',
  IndexVerifier: 'IndexVerifier.sol',
  InferenceEscrow: 'InferenceEscrow.sol',
  InsurancePool: 'InsurancePool.sol',
  L1BlockDev: 'L1BlockDev.sol',
  MaskVerifier: 'MaskVerifier.sol',
  PayoutVerifier: 'PayoutVerifier.sol',
  Probe: 'Probe.sol',
  ProbeSpans: 'ProbeSpans.sol',
  ReceiptChallenge: 'ReceiptChallenge.sol',
  RewardsVault: 'RewardsVault.sol',
  Settlement: 'Settlement.sol',
  SpanVerifier: 'SpanVerifier.sol',
  StakeManager: 'StakeManager.sol',
  WordRanges: 'WordRanges.sol',
};

/** Contracts whose constructor returns other code than the compiler's. */
const OWN_CODE = new Set(['WordRanges']);

/** sha256 over the keccak of every source file the contract was compiled from, in path order. */
function sourceHash(metadata) {
  const hash = createHash('sha256');
  for (const path of Object.keys(metadata.sources).sort()) hash.update(`${path} ${metadata.sources[path].keccak256}\n`);
  return `0x${hash.digest('hex')}`;
}

function compact(name) {
  const built = JSON.parse(readFileSync(join(root, 'out', CONTRACTS[name], `${name}.json`), 'utf8'));
  if (built.bytecode.object.includes('__$')) throw new Error(`${name}: expected linked bytecode, found a library placeholder`);
  const artifact = { contractName: name, abi: built.abi, bytecode: built.bytecode.object };
  // Only code without immutables means anything before it is deployed: that is what a predeploy is placed from.
  const immutables = Object.keys(built.deployedBytecode.immutableReferences ?? {}).length;
  if (immutables === 0 && !OWN_CODE.has(name)) artifact.deployedBytecode = built.deployedBytecode.object;
  artifact.sourceHash = sourceHash(built.metadata);
  return `${JSON.stringify(artifact, null, 1)}\n`;
}

const status = forge(['build', '--quiet', 'src']);
if (status !== 0) process.exit(status);

const check = process.argv.includes('--check');
const wrong = [];
mkdirSync(folder, { recursive: true });
for (const name of Object.keys(CONTRACTS)) {
  const file = join(folder, `${name}.json`);
  const fresh = compact(name);
  const committed = existsSync(file) ? readFileSync(file, 'utf8') : '';
  if (check && committed !== fresh) wrong.push(name);
  if (!check && committed !== fresh) writeFileSync(file, fresh);
}
for (const file of readdirSync(folder)) if (!(file.replace(/\.json$/, '') in CONTRACTS)) wrong.push(file);

if (wrong.length > 0) {
  console.error(`artifacts differ from a fresh compile: ${wrong.join(', ')}; run \`npm run artifacts\` and commit them`);
  process.exitCode = 1;
} else {
  console.log(`${Object.keys(CONTRACTS).length} artifacts ${check ? 'equal a fresh compile' : 'written'}`);
}
