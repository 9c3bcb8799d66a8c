// Realtime as supabase-js sees it: who is told what of whom. What he is told comes from realtime.py, which asks the database.
import assert from 'node:assert/strict'
import { webcrypto } from 'node:crypto'
import { after, before, test } from 'node:test'
import { readFileSync } from 'node:fs'
import { createClient } from '@supabase/supabase-js'
import { WebSocket } from 'ws'

const { SUPABASE_URL: url, SUPABASE_ANON_KEY: anonKey, SERVICE_KEY: serviceKey, EMAIL: email, OTHER_EMAIL: otherEmail, PHOTOS } = process.env
const photo = readFileSync(PHOTOS.split(':')[0])
globalThis.crypto ??= webcrypto      // node 18 has it under this name only
globalThis.WebSocket ??= WebSocket   // from node 22 on there is one
const options = { auth: { persistSession: false, autoRefreshToken: false }, realtime: { timeout: 120000 } }
const pause = milliseconds => new Promise(done => setTimeout(done, milliseconds))

async function until(condition, what, end = Date.now() + 120000) {
  for (;;) {
    const value = await condition()
    if (value) return value
    assert.ok(Date.now() < end, `not within two minutes: ${what}`)
    await pause(20)
  }
}

async function signedIn(address) {
  const client = createClient(url, anonKey, options)
  const { data, error } = await client.auth.signInWithPassword({ email: address, password: 'secret' })
  assert.equal(error, null)
  await client.realtime.setAuth(data.session.access_token)
  const response = await fetch(`${url}/rest/v1/rpc/upload_image`, {
    method: 'POST', body: photo,
    headers: { apikey: anonKey, Authorization: `Bearer ${data.session.access_token}`, 'Content-Type': 'application/octet-stream' },
  })
  return { client, id: data.session.user.id, path: (await response.json()).path }
}

async function picture(user, tool_id) {
  let { data, error } = await user.client.rpc('process_image', { tool_id, original_image_storage_path: user.path, refresh: true })
  assert.equal(error, null)
  while (/^(queued|running)$/.test(data.status)) ({ data } = await user.client.rpc('generation_status', { job_id: data.job_id, wait_seconds: 25 }))
  assert.equal(data.status, 'succeeded')
  return data
}

// what a channel ended as, and the reason
const joined = channel => new Promise(done => channel.subscribe((state, error) => done([state, error?.message])))

async function watch(client, binding, told = []) {
  const channel = client.channel(crypto.randomUUID()).on('postgres_changes', { schema: 'public', ...binding }, change => told.push(change))
  const system = new Promise(done => channel.on('system', {}, done))
  assert.deepEqual(await joined(channel), ['SUBSCRIBED', undefined])
  return { told, ...await system }
}

const nobody = 'nobody'
let nora, other
const anonymous = createClient(url, anonKey, options)
const service = createClient(url, serviceKey, options)
before(async () => { [nora, other] = [await signedIn(email), await signedIn(otherEmail)] })
after(async () => { for (const client of [nora.client, other.client, anonymous, service]) await client.removeAllChannels() })

test('a private topic is for its user alone', async () => {
  const topic = client => client.channel(`user:${nora.id}`, { config: { private: true } })
  // clients of their own: one that has left its last channel is closing its socket, and what joins meanwhile is lost
  for (const client of [(await signedIn(otherEmail)).client, createClient(url, anonKey, options)]) {
    const [state, reason] = await joined(topic(client))
    assert.equal(state, 'CHANNEL_ERROR')
    assert.match(reason, /^"Unauthorized: You do not have permissions to read from this Channel topic/)
    await client.removeAllChannels()
  }
  // the same name without the word private is another topic, which hears nothing
  const overheard = [], heard = []
  const open = other.client.channel(`user:${nora.id}`).on('broadcast', { event: '*' }, message => overheard.push(message))
  assert.equal((await joined(open))[0], 'SUBSCRIBED')
  const own = topic(nora.client).on('broadcast', { event: 'generation' }, ({ payload }) => heard.push(payload))
  assert.equal((await joined(own))[0], 'SUBSCRIBED')
  const job = await picture(nora, 'vintage')
  const message = await until(() => heard.find(payload => payload.job_id === job.job_id), 'the broadcast')
  assert.deepEqual([message.status, message.generation_id, message.credits], ['succeeded', job.generation_id, job.credits_remaining])
  assert.deepEqual(overheard, [])
})

test('a token that has run out, or is forged, does not listen', async () => {
  const [head, claims, signature] = (await nora.client.auth.getSession()).data.session.access_token.split('.')
  const changed = Buffer.from(JSON.stringify({ ...JSON.parse(Buffer.from(claims, 'base64url')), sub: other.id })).toString('base64url')
  const client = createClient(url, anonKey, { ...options, accessToken: async () => [head, changed, signature].join('.') })
  await client.realtime.setAuth()
  const [state, reason] = await joined(client.channel(`user:${other.id}`, { config: { private: true } }))
  assert.equal(state, 'CHANNEL_ERROR')
  assert.match(reason, /InvalidJWTToken/)
  await client.removeAllChannels()
})

test('rows are told to those who may read them, whatever they ask for', async () => {
  const tables = { users: 'id', generation_jobs: 'user_id', generations: 'user_id' }
  const watched = []
  for (const [table, owner] of Object.entries(tables)) {
    watched.push({ table, owner, whose: nora.id, ...await watch(nora.client, { event: '*', table }) })
    watched.push({ table, owner, whose: other.id, ...await watch(other.client, { event: '*', table }) })
    watched.push({ table, owner, whose: nobody, ...await watch(other.client, { event: '*', table, filter: `${owner}=eq.${nora.id}` }) })
    watched.push({ table, owner, whose: nobody, ...await watch(anonymous, { event: '*', table }) })
  }
  const jobs = { [nora.id]: await picture(nora, 'cartoon'), [other.id]: await picture(other, 'cartoon') }
  // told in the order of the commits: when the last one is here, all are
  for (const who of [nora.id, other.id]) {
    const rows = await until(() => {
      const { told } = watched.find(each => each.table === 'generation_jobs' && each.whose === who)
      return told.some(change => change.new.status === 'succeeded') && told
    }, 'the own job')
    assert.deepEqual(rows.map(change => change.new.id), rows.map(() => jobs[who].job_id))
    const balances = await until(() => {
      const { told } = watched.find(each => each.table === 'users' && each.whose === who)
      return told.some(change => change.new.credits === jobs[who].credits_remaining) && told
    }, 'the own balance')
    assert.ok(balances.every(change => change.new.id === who))
    const made = await until(() => {
      const { told } = watched.find(each => each.table === 'generations' && each.whose === who)
      return told.length && told
    }, 'the own result')
    assert.deepEqual(made.map(change => [change.eventType, change.new.image_url]), [['INSERT', jobs[who].image_path]])
  }
  for (const { told, owner, whose, status } of watched) {
    assert.equal(status, 'ok')
    for (const change of told) assert.equal(change.new[owner], whose)
    if (whose === nobody) assert.deepEqual(told, [])
  }
})

test('columns that a client may not read are not told', async () => {
  const { told } = await watch(nora.client, { event: 'UPDATE', table: 'generation_jobs', filter: `user_id=eq.${nora.id}` })
  await picture(nora, 'vintage')
  const { new: job } = await until(() => told.find(change => change.new.status === 'succeeded'), 'the job')
  const { data: [row] } = await nora.client.from('generation_jobs').select('id, status, user_id').eq('id', job.id)
  assert.deepEqual(row, { id: job.id, status: job.status, user_id: job.user_id })
  assert.ok('user_id' in job && !('cache_key' in job) && !('incarnation' in job))
})

test('a deletion is told to everybody, and says only which key', async () => {
  const { told } = await watch(other.client, { event: 'DELETE', table: 'generations' })
  const { generation_id } = await picture(nora, 'vintage')
  assert.deepEqual((await nora.client.rpc('delete_generation', { id: generation_id })).data, { deleted: true })
  const gone = await until(() => told.find(change => change.old.id === generation_id), 'the deletion')
  assert.deepEqual([gone.old, gone.new], [{ id: generation_id }, {}])
})

test('the catalogue changes for everybody, signed in or not', async () => {
  const { told } = await watch(anonymous, { event: '*', table: 'config_versions' })
  const { data: [tool] } = await service.from('tools').select('sort_order').eq('id', 'retouch')
  assert.equal((await service.from('tools').update({ sort_order: tool.sort_order + 1 }).eq('id', 'retouch')).error, null)
  await until(() => told.some(change => change.new.name === 'tools'), 'the new version')
})

test('what is not published, or not readable, cannot be watched', async () => {
  for (const binding of [{ table: 'credit_ledger' }, { table: 'generation_jobs', filter: 'cache_key=eq.x' }]) {
    const { status, message } = await watch(nora.client, { event: '*', ...binding })
    assert.equal(status, 'error')
    assert.match(message, /^Unable to subscribe to changes/)
  }
})
