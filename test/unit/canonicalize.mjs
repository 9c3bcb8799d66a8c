// Compares our canonical form with the npm package `canonicalize` over random
// values, and our numbers with V8's over the doubles that are hard to print.
// Usage: node canonicalize.mjs JCS_PROGRAM PACKAGE_DIRECTORY
import { spawnSync } from 'node:child_process'
import { pathToFileURL } from 'node:url'

const [program, directory] = process.argv.slice(2)
const { default: canonicalize } = await import(pathToFileURL(`${directory}/lib/canonicalize.js`))

// A repeatable generator (mulberry32): a failure can be run again.
let seed = 20260101
const random = () => {
  seed = (seed + 0x6D2B79F5) | 0
  let t = Math.imul(seed ^ (seed >>> 15), 1 | seed)
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
  return ((t ^ (t >>> 14)) >>> 0) / 4294967296
}
const below = n => Math.floor(random() * n)
const pick = list => list[below(list.length)]

const view = new DataView(new ArrayBuffer(8))
const double = (high, low) => { view.setUint32(0, high); view.setUint32(4, low); return view.getFloat64(0) }
const anyDouble = () => {
  for (;;) {
    const number = double(below(2 ** 32), below(2 ** 32))
    if (Number.isFinite(number)) return number
  }
}
const character = () => String.fromCodePoint(pick([
  () => below(0x20) || 1, () => 0x20 + below(0x60), () => 0x80 + below(0x700),
  () => 0xE000 + below(0x2000 - 2), () => 0x10000 + below(0x100000), () => pick([0x22, 0x5C, 0x2F, 0x2028, 0xFEFF, 0x7F])
])())
const string = () => Array.from({ length: below(8) }, character).join('')
const value = depth => pick(depth > 4
  ? [anyDouble, string]
  : [anyDouble, () => below(1000), () => random() * 10 ** below(25), string, () => null, () => random() < 0.5,
      () => Array.from({ length: below(5) }, () => value(depth + 1)),
      () => Object.fromEntries(Array.from({ length: below(7) }, () => [string(), value(depth + 1)])),
      () => Object.fromEntries(Array.from({ length: below(7) }, () => [string(), value(depth + 1)]))])()

const ours = texts => {
  const run = spawnSync(program, { input: texts.join('\n') + '\n', maxBuffer: 1 << 30 })
  if (run.status !== 0) throw new Error(`jcs ended with ${run.status} ${run.signal} ${run.stderr}`)
  return run.stdout.toString('utf8').split('\n').slice(0, -1)
}
let count = 0
const compare = (name, texts, expected) => {
  const got = ours(texts)
  const wrong = expected.findIndex((text, i) => text !== got[i])
  count++
  console.log(`${wrong < 0 && got.length === expected.length ? '' : 'not '}ok ${count} - ${name}: ${texts.length} compared`)
  if (wrong >= 0) console.log(`# text: ${texts[wrong]}\n#  got: ${got[wrong]}\n# want: ${expected[wrong]}`)
}

const values = Array.from({ length: 3000 }, () => value(0))
compare('random values against canonicalize', values.map(v => JSON.stringify(v)), values.map(v => canonicalize(v)))

const numbers = Array.from({ length: 20000 }, anyDouble)
compare('random doubles against ECMAScript', numbers.map(n => n.toExponential(20).replace('e+', 'e')), numbers.map(String).map(s => s === '-0' ? '0' : s))

const powers = []
for (let e = -1074; e < 1024; e++) powers.push(2 ** e, -(2 ** e))
const nearby = powers.flatMap(p => {
  view.setFloat64(0, p)
  const bits = view.getBigUint64(0)
  return [-1n, 1n].map(d => { view.setBigUint64(0, bits + d); return view.getFloat64(0) }).filter(Number.isFinite)
}).map(n => n === 0 ? 0 : n)
compare('powers of two', powers.map(n => n.toExponential(20)), powers.map(String))
compare('their neighbours', nearby.map(n => n.toExponential(20)), nearby.map(String))

const tens = []
for (let e = -323; e <= 308; e++) tens.push(Number(`1e${e}`), Number(`9.5e${e}`))
const finite = tens.filter(Number.isFinite)
compare('powers of ten', finite.map(n => n.toExponential(20)), finite.map(String))
console.log(`1..${count}`)
process.exit(0)
