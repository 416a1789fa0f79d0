#!/usr/bin/env node
// Runs the forge binary of this platform's npm package, because npm may be told not to run install scripts.
// usage: node tools/forge.mjs <forge arguments>
import { spawnSync } from 'node:child_process';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const arch = process.arch === 'x64' ? 'amd64' : process.arch;
const name = `@foundry-rs/forge-${process.platform}-${arch}`;

/** Path of the forge binary; the error names the package and the command that installs it. */
export function forgeBinary() {
  try {
    return join(dirname(createRequire(import.meta.url).resolve(`${name}/package.json`)), 'bin', 'forge');
  } catch {
    throw new Error(`expected npm package ${name} in ${root}/node_modules, found none: run \`npm ci\` there`);
  }
}

/** Runs forge in the project folder and returns its exit status. */
export function forge(args) {
  const done = spawnSync(forgeBinary(), args, { cwd: root, stdio: 'inherit' });
  if (done.error) throw done.error;
  return done.status ?? 1;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) process.exitCode = forge(process.argv.slice(2));
