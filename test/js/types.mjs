// What `supabase gen types typescript` writes: its generator, over the database of PG_CONNECTION, onto standard output.
import pg from 'pg'
import { introspect } from '@supabase/postgrest-typegen/introspection'
import { generateTypescript, sortGeneratorMetadata } from '@supabase/postgrest-typegen/generation'

const pool = new pg.Pool({ connectionString: process.env.PG_CONNECTION })
const metadata = await introspect(pool, { includedSchemas: ['public'] })
console.log(await generateTypescript(sortGeneratorMetadata(metadata), { detectOneToOneRelationships: true, postgrestVersion: '13' }))
await pool.end()
