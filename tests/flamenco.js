// SPDX-License-Identifier: GPL-3.0-or-later
// Runs a Flamenco job type under Node and prints its tasks: node flamenco.js SCRIPT SETTINGS-AS-JSON. What the Manager
// offers to job types is imitated as its documentation describes it.
const fs = require("fs");
const vm = require("vm");

function frameChunker(range, size) {
  const frames = [];
  for (const part of range.split(",")) {
    const ends = part.trim().split("-").map(Number);
    for (let n = ends[0]; n <= ends[ends.length - 1]; n++) {
      frames.push(n);
    }
  }
  const chunks = [];
  for (let i = 0; i < frames.length; i += size) {
    const parts = [];
    for (const n of frames.slice(i, i + size)) {
      const last = parts[parts.length - 1];
      if (last && last[1] === n - 1) {
        last[1] = n;
      } else {
        parts.push([n, n]);
      }
    }
    chunks.push(parts.map(([a, b]) => (a === b ? `${a}` : `${a}-${b}`)).join(","));
  }
  return chunks;
}

const tasks = [];
const author = {
  Task: (name, type) => ({ name, type, commands: [], addCommand(c) { this.commands.push(c); } }),
  Command: (name, parameters) => ({ name, parameters }),
};
const context = vm.createContext({ author, frameChunker, print: () => undefined });
const [script, settings] = process.argv.slice(2);
vm.runInContext(fs.readFileSync(script, "utf8") + "\nthis.JOB_TYPE = JOB_TYPE;", context);
const given = JSON.parse(settings);
for (const setting of context.JOB_TYPE.settings) {
  if (!(setting.key in given) && setting.default !== undefined) {
    given[setting.key] = setting.default;
  }
}
context.compileJob({ settings: given, addTask: (task) => tasks.push(task) });
console.log(JSON.stringify({ type: context.JOB_TYPE, tasks }));
