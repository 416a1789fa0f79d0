#!/usr/bin/env node
// Proves the properties of test/symbolic for every input.
// usage: [PYTHON=<interpreter that has halmos>] node tools/halmos.mjs
import { spawnSync } from 'node:child_process';
import { dirname, delimiter } from 'node:path';
import { forgeBinary, root } from './forge.mjs';

const env = { ...process.env, FOUNDRY_PROFILE: 'audit', PATH: `${dirname(forgeBinary())}${delimiter}${process.env.PATH}` };
const args = ['-m', 'halmos', '--contract', 'SymbolicTest', '--forge-build-out', 'out/audit', '--no-status'];
const done = spawnSync(process.env.PYTHON ?? 'python3', args, { cwd: root, env, stdio: 'inherit' });
if (done.error) throw done.error;
process.exitCode = done.status ?? 1;
