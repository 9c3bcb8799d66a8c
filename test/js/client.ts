// A client with the generated types: what it may write, and what the compiler must refuse.
import { createClient } from '@supabase/supabase-js'
import type { Database, Json, Tables } from './database.types.js'

const supabase = createClient<Database>('http://localhost', 'key')

export async function ofTheTypes() {
  const { data: result } = await supabase.rpc('process_image', { tool_id: 'vintage', original_image_storage_path: 'x', tool_parameters: { a: [1, null] } })
  const json: Json = result
  await supabase.rpc('generation_status', { job_id: 'x' })
  const { data: usage } = await supabase.rpc('my_usage', {})
  const spent: number = usage!.reduce((sum, day) => sum + day.credits, 0)
  const { data: users } = await supabase.from('users').select('id, credits, plan_id')
  const credits: number = users![0].credits
  const { data: jobs } = await supabase.from('generation_jobs').select('status, result, finished_at').eq('user_id', 'x')
  const finished: string | null = jobs![0].finished_at
  const tool: Tables<'tools'>['credits'] = 1
  return [json, spent, credits, finished, tool]
}

export async function againstTheTypes() {
  // @ts-expect-error: no such function
  await supabase.rpc('process_images', {})
  // @ts-expect-error: a parameter is missing
  await supabase.rpc('process_image', { tool_id: 'vintage' })
  // @ts-expect-error: a parameter of another type
  await supabase.rpc('delete_generation', { id: 'one' })
  // @ts-expect-error: no such table
  await supabase.from('user').select('id')
  const { data } = await supabase.from('users').select('credits')
  // @ts-expect-error: a number
  const credits: string = data![0].credits
  return credits
}
