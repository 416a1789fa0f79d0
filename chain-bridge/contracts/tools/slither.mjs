#!/usr/bin/env node
// Runs slither over the sources and compares what it finds with the first table of AUDIT.md: a finding that is not argued there, and one that
// is argued and gone, fails and is named. No comment in a source switches a detector off.
// usage: [PYTHON=<interpreter that has slither-analyzer>] node tools/slither.mjs
import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync } from 'node:fs';
import { delimiter, dirname, join } from 'node:path';
import { forgeBinary, root } from './forge.mjs';

const report = join(root, 'out', 'audit', 'slither.json');

/** Contract and function a finding is about; contracts alone where it is about those. */
function place(finding) {
  const elements = finding.elements;
  if (elements.every((element) => element.type === 'contract')) return elements.map((element) => element.name).join(' is ');
  const names = [];
  for (let at = elements[0]; at; at = at.type_specific_fields?.parent) {
    if (at.type === 'contract' || at.type === 'function' || at.type === 'event') names.unshift(at.name);
    else if (at.type === 'variable' && at.type_specific_fields.parent.type === 'contract') names.unshift(at.name);
  }
  return names.join('.');
}

/** How often each `detector place` occurs in what slither found. */
function found() {
  mkdirSync(dirname(report), { recursive: true });
  rmSync(report, { force: true });
  const env = { ...process.env, FOUNDRY_PROFILE: 'audit', PATH: `${dirname(forgeBinary())}${delimiter}${process.env.PATH}` };
  const done = spawnSync(process.env.PYTHON ?? 'python3', ['-m', 'slither', '.', '--json', report], { cwd: root, env, encoding: 'utf8' });
  if (done.error) throw done.error;
  let read;
  try {
    read = JSON.parse(readFileSync(report, 'utf8'));
  } catch {
    throw new Error(`expected slither's report, found none:\n${done.stderr}`);
  }
  if (!read.success) throw new Error(`slither failed: ${read.error}`);
  const counts = new Map();
  for (const finding of read.results.detectors ?? []) {
    const key = `${finding.check} ${place(finding)}`;
    counts.set(key, (counts.get(key) ?? 0) + 1);
  }
  return counts;
}

/** The same as AUDIT.md argues it: rows of detector, places, argument; a place that occurs twice is followed by (2). */
function argued() {
  const lines = readFileSync(join(root, 'AUDIT.md'), 'utf8').split('\n');
  const first = lines.findIndex((line) => line.startsWith('|---'));
  const counts = new Map();
  for (let i = first + 1; lines[i]?.startsWith('|'); ++i) {
    const [, detector, places] = lines[i].split('|').map((cell) => cell.trim());
    for (const [, name, times] of places.matchAll(/`([^`]+)`(?: \((\d+)\))?/g)) {
      const key = `${detector} ${name}`;
      if (counts.has(key)) throw new Error(`AUDIT.md argues ${key} twice`);
      counts.set(key, Number(times ?? 1));
    }
  }
  if (counts.size === 0) throw new Error('AUDIT.md holds no table of findings');
  return counts;
}

const [have, want] = [found(), argued()];
const wrong = [];
for (const key of new Set([...have.keys(), ...want.keys()])) {
  const [got, expected] = [have.get(key) ?? 0, want.get(key) ?? 0];
  if (got > expected) wrong.push(`found and not argued in AUDIT.md: ${key} (${got}, argued ${expected})`);
  if (got < expected) wrong.push(`argued in AUDIT.md and gone: ${key} (${got}, argued ${expected})`);
}
if (wrong.length > 0) {
  console.error(wrong.sort().join('\n'));
  process.exitCode = 1;
} else {
  console.log(`slither finds what AUDIT.md argues, and nothing else: ${[...have.values()].reduce((a, b) => a + b, 0)} findings`);
}
