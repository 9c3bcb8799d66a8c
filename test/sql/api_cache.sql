--
-- The cache key: any client in any language can compute it, so these are
-- vectors.  Each is the SHA-256 of the text in its comment, made elsewhere.
--
\set user '''6B7A1C3E-9F1D-4A57-8E0C-2B1D5F60A7C8'''
\set hash '''5e7d4aa161e3d7ac781b0ab035c15398d8140fe74d3529ed5aa2ea0583cc9f7c'''

-- ["6b7a1c3e-9f1d-4a57-8e0c-2b1d5f60a7c8","cartoon","5e7d...9f7c",{},1]
SELECT sparky.cache_key(:user, 'cartoon', :hash, '{}');
-- NULL parameters are {}, the revision is 1 unless told
SELECT sparky.cache_key(:user, 'cartoon', :hash, NULL, 1) = sparky.cache_key(:user, 'cartoon', :hash, '{}') AS same;
-- [...,{"color":"#a55d35"},7]
SELECT sparky.cache_key(:user, 'hair-color', :hash, '{"color": "#a55d35"}', 7);
-- members in order of their UTF-16 code units, recursively: {"":0,"a":{"b":[true,null,"x"],"c":1},"\u00e9":2,"\ud83d\ude00":3,"\ufb33":4}, none escaped
SELECT sparky.cache_key(:user, 'x', :hash, '{"\ufb33": 4, "\ud83d\ude00": 3, "\u00e9": 2, "a": {"c": 1, "b": [true, null, "x"]}, "": 0}');
-- numbers as ECMAScript prints them: {"a":1,"b":1e+21,"c":1e-7,"d":0.1,"e":100000000000000000000,"f":0}
SELECT sparky.cache_key(:user, 'x', :hash, '{"a": 1.0, "b": 1e21, "c": 0.0000001, "d": 0.10, "e": 1e20, "f": -0.0}');
SELECT sparky.cache_key(:user, 'x', :hash, '{"a": 1.0}') = sparky.cache_key(:user, 'x', :hash, '{"a": 1}') AS same;
-- strings escaped as little as may be: ["...","say \"hi\"\\\n","...",{"k":"\u0001\t/\u007f"},1]
SELECT sparky.cache_key(:user, E'say "hi"\\\n', :hash, '{"k": "\u0001\t/\u007f"}');

-- every part counts
SELECT count(DISTINCT key) FROM (VALUES
	(sparky.cache_key(:user, 'a', 'h', '{}')),
	(sparky.cache_key('00000000-0000-0000-0000-000000000000', 'a', 'h', '{}')),
	(sparky.cache_key(:user, 'b', 'h', '{}')),
	(sparky.cache_key(:user, 'a', 'i', '{}')),
	(sparky.cache_key(:user, 'a', 'h', '{"p": 1}')),
	(sparky.cache_key(:user, 'a', 'h', '{"p": "1"}')),
	(sparky.cache_key(:user, 'a', 'h', '{}', 2))) v(key);

-- no key without its parts
SELECT sparky.cache_key(NULL, 'a', 'h', '{}') IS NULL AND sparky.cache_key(:user, NULL, 'h', '{}') IS NULL
	AND sparky.cache_key(:user, 'a', NULL, '{}') IS NULL AS null_in_null_out;
-- what no double can hold has no canonical form
DO $$ BEGIN
	PERFORM sparky.cache_key('00000000-0000-0000-0000-000000000000', 'a', 'h', '{"n": 1e400}');
EXCEPTION WHEN SQLSTATE 'PT422' THEN RAISE NOTICE '%', SQLERRM; END $$;
