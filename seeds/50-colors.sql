-- Hair colours, from black to fashion colours.
WITH given (hex_code, sort_order) AS (VALUES
	('#0b0b0d', 10), ('#2c1b12', 20), ('#3b2416', 30), ('#5a3a22', 40), ('#7b4f2c', 50), ('#8d5a34', 60),
	('#a5713f', 70), ('#c59a5f', 80), ('#dcb878', 90), ('#ead9b0', 100), ('#d9d4c7', 110), ('#8b8b8f', 120),
	('#6b1f1a', 130), ('#9c3b20', 140), ('#b7522c', 150), ('#d46a3a', 160), ('#7a2139', 170), ('#e58fb0', 180),
	('#c0398b', 190), ('#6a3fa0', 200), ('#2f4fb5', 210), ('#2b8fb3', 220), ('#2f8f5b', 230)
), overwritten AS (
	UPDATE public.hair_colors c SET sort_order = g.sort_order FROM given g WHERE overwrite AND c.hex_code = g.hex_code
)
INSERT INTO public.hair_colors (hex_code, sort_order)
SELECT * FROM given ON CONFLICT DO NOTHING;

-- Skin tones. The name goes into the prompt.
WITH given (hex_code, name, sort_order) AS (VALUES
	('#f9e4d4', 'porcelain', 10),
	('#f3d3bd', 'ivory', 20),
	('#ecc3a2', 'light beige', 30),
	('#e0ac85', 'warm beige', 40),
	('#d39a6f', 'golden tan', 50),
	('#c08457', 'honey', 60),
	('#a86f45', 'caramel', 70),
	('#8d5a37', 'bronze', 80),
	('#70442a', 'chestnut brown', 90),
	('#573320', 'deep brown', 100),
	('#3f2417', 'espresso', 110),
	('#2d1a12', 'ebony', 120)
), overwritten AS (
	UPDATE public.skin_colors c SET name = g.name, sort_order = g.sort_order FROM given g WHERE overwrite AND c.hex_code = g.hex_code
)
INSERT INTO public.skin_colors (hex_code, name, sort_order)
SELECT * FROM given ON CONFLICT DO NOTHING;
