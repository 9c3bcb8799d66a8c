// supabase-js against sparky: what a client sees of results, errors and rows.
// test_client.py starts what it talks to, and says in the environment where that is.
import assert from 'node:assert/strict'
import { webcrypto } from 'node:crypto'
import { test } from 'node:test'
import { readFileSync } from 'node:fs'
import { createClient } from '@supabase/supabase-js'

const { SUPABASE_URL: url, SUPABASE_ANON_KEY: anonKey, SERVICE_KEY: serviceKey, EMAIL: email, OTHER_EMAIL: otherEmail, PHOTOS } = process.env
const photos = PHOTOS.split(':').map(name => readFileSync(name))
globalThis.crypto ??= webcrypto      // node 18 has it under this name only
const options = { auth: { persistSession: false, autoRefreshToken: false } }

async function signedIn(address) {
  const client = createClient(url, anonKey, options)
  const { data, error } = await client.auth.signInWithPassword({ email: address, password: 'secret' })
  assert.equal(error, null)
  return { client, session: data.session }
}

async function upload(session, photo) {
  const response = await fetch(`${url}/rest/v1/rpc/upload_image`, {
    method: 'POST', body: photo,
    headers: { apikey: anonKey, Authorization: `Bearer ${session.access_token}`, 'Content-Type': 'application/octet-stream' },
  })
  assert.equal(response.status, 200)
  return (await response.json()).path
}

// embedded, a deleted picture is gone with the commit; in Storage the worker erases it
async function gone(address, end = Date.now() + 120000) {
  while ((await fetch(address)).ok) {
    if (Date.now() > end) return false
    await new Promise(done => setTimeout(done, 50))
  }
  return true
}

test('without a session every function says 401', async () => {
  const client = createClient(url, anonKey, options)
  const { data, error, status } = await client.rpc('my_account')
  assert.deepEqual([data, status, error.code, error.message.split(':')[0]], [null, 401, 'PT401', 'not_signed_in'])
})

test('a photo, its result, the cache, the deletion', async () => {
  const { client, session } = await signedIn(email)
  const path = await upload(session, photos[0])
  const request = { tool_id: 'vintage', original_image_storage_path: path, idempotency_key: crypto.randomUUID() }
  const first = await client.rpc('process_image', request)
  assert.equal(first.error, null)
  assert.equal(first.data.status, 'succeeded')
  assert.equal(first.data.credits_used, 1)
  const link = await fetch(first.data.image_url)
  assert.equal(link.status, 200)
  assert.match(link.headers.get('content-type'), /^image\//)
  const repeated = await client.rpc('process_image', request)
  assert.equal(repeated.data.job_id, first.data.job_id)
  const { data: hit } = await client.rpc('process_image', { ...request, idempotency_key: null })
  assert.deepEqual([hit.cached, hit.credits_used], [true, 0])
  const { data: usage } = await client.rpc('my_usage')
  assert.equal(usage.reduce((sum, day) => sum + day.credits, 0), 1)
  const { data: rows } = await client.from('generations').select('id, image_url')
  assert.deepEqual(rows.map(row => row.id), [first.data.generation_id])
  assert.deepEqual((await client.rpc('delete_generation', { id: first.data.generation_id })).data, { deleted: true })
  assert.ok(await gone(first.data.image_url))
})

test('a running job is data with status 202, not an error', async () => {
  const { client, session } = await signedIn(email)
  const path = await upload(session, photos[1])
  const { data, error, status } = await client.rpc('process_image', { tool_id: 'cartoon', original_image_storage_path: path, wait_seconds: 0 })
  assert.equal(error, null)
  assert.equal(status, 202)
  assert.match(data.status, /^(queued|running)$/)
  const { data: done } = await client.rpc('generation_status', { job_id: data.job_id, wait_seconds: 25 })
  assert.equal(done.status, 'succeeded')
  const { data: read } = await client.rpc('generation_status', { job_id: data.job_id }, { get: true })
  assert.equal(read.status, 'succeeded')
})

test('error words come through', async () => {
  const { client, session } = await signedIn(email)
  const path = await upload(session, photos[0])
  for (const [status, word, args] of [
    [404, 'tool_not_found', { tool_id: 'none' }],
    [422, 'wrong_kind', { tool_id: 'face-shape' }],
    [422, 'bad_parameters', { tool_parameters: { colour: 'red' } }],
    [403, 'forbidden', { original_image_storage_path: 'user_uploads/somebody/x.png' }],
    [404, 'image_not_found', { original_image_storage_path: path.replace(/[^/]*$/, 'none.png') }],
  ]) {
    const answer = await client.rpc('process_image', { tool_id: 'vintage', original_image_storage_path: path, ...args })
    assert.deepEqual([answer.status, answer.error.code, answer.error.message.split(':')[0], answer.data], [status, `PT${status}`, word, null])
  }
})

test('a user sees and changes what is his', async () => {
  const { client, session } = await signedIn(email)
  const { data: users } = await client.from('users').select('id, credits')
  assert.deepEqual(users.map(user => user.id), [session.user.id])
  const { error: none } = await client.from('users').update({ username: 'Nora' }).eq('id', session.user.id)
  assert.equal(none, null)
  const { error: money, status } = await client.from('users').update({ credits: 1000 }).eq('id', session.user.id)
  assert.deepEqual([status, money.code], [403, '42501'])
  const { error: insert } = await client.from('credit_ledger').insert({ user_id: session.user.id, delta: 1 })
  assert.equal(insert.code, '42501')
  const { data: jobs } = await client.from('generation_jobs').select('id, status, credits_held')
  assert.ok(jobs.length >= 1)
  const { error: internal } = await client.from('generation_jobs').select('id, cache_key')
  assert.equal(internal.code, '42501')
})

test('nobody else sees it', async () => {
  const { client, session } = await signedIn(otherEmail)
  for (const table of ['generations', 'generation_jobs', 'credit_usage', 'notifications', 'payments']) {
    const { data, error } = await client.from(table).select('user_id')
    assert.equal(error, null, table)
    assert.deepEqual(data.filter(row => row.user_id !== session.user.id), [], table)
  }
})

test('the catalogue is public', async () => {
  const client = createClient(url, anonKey, options)
  for (const table of ['tools', 'plans', 'products', 'hairstyles', 'hair_colors', 'skin_colors', 'config_versions']) {
    const { data, error } = await client.from(table).select('*').limit(1)
    assert.equal(error, null, table)
    assert.equal(data.length, 1, table)
  }
  const { error } = await client.from('users').select('id')
  assert.equal(error.code, '42501')
})

test('the service key reads all and has no account', async () => {
  const service = createClient(url, serviceKey, options)
  const { data } = await service.from('users').select('id')
  assert.ok(data.length >= 2)
  assert.equal((await service.rpc('my_account')).status, 401)
})
