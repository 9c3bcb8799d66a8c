-- Hairstyles. The name goes into the prompt, so it says what the cut looks like.
WITH given (id, name, gender, is_pro, category) AS (VALUES
	('m-buzz-cut', 'very short buzz cut', 'male', false, 'short'),
	('m-crew-cut', 'classic crew cut', 'male', false, 'short'),
	('m-french-crop', 'French crop with a short straight fringe', 'male', false, 'short'),
	('m-side-part', 'neat side part', 'male', false, 'classic'),
	('m-quiff', 'voluminous quiff swept up and back', 'male', false, 'classic'),
	('m-pompadour', 'high pompadour with short sides', 'male', true, 'classic'),
	('m-slick-back', 'slicked-back hair with a soft shine', 'male', false, 'classic'),
	('m-undercut', 'undercut with long combed-over top', 'male', false, 'modern'),
	('m-low-fade', 'textured top with a low fade', 'male', false, 'modern'),
	('m-high-fade', 'textured top with a high skin fade', 'male', true, 'modern'),
	('m-curtains', 'curtain hair parted in the middle', 'male', false, 'medium'),
	('m-modern-mullet', 'modern mullet with faded sides', 'male', true, 'medium'),
	('m-shoulder-waves', 'shoulder-length wavy hair', 'male', false, 'long'),
	('m-man-bun', 'long hair tied in a man bun', 'male', true, 'long'),
	('m-curly-top', 'curly top with tapered sides', 'male', false, 'curly'),
	('m-short-afro', 'short round afro', 'male', false, 'curly'),
	('m-cornrows', 'straight-back cornrows', 'male', true, 'braids'),
	('m-locs', 'shoulder-length locs', 'male', true, 'braids'),
	('f-pixie', 'short pixie cut', 'female', false, 'short'),
	('f-classic-bob', 'chin-length bob with a straight edge', 'female', false, 'short'),
	('f-french-bob', 'French bob with a full fringe', 'female', true, 'short'),
	('f-lob', 'long bob that touches the collarbone', 'female', false, 'medium'),
	('f-shag', 'layered shag with curtain bangs', 'female', true, 'medium'),
	('f-wolf-cut', 'wolf cut with choppy layers', 'female', true, 'medium'),
	('f-shoulder-straight', 'sleek straight shoulder-length hair', 'female', false, 'medium'),
	('f-long-layers', 'long hair with soft layers', 'female', false, 'long'),
	('f-long-straight', 'very long sleek straight hair', 'female', false, 'long'),
	('f-beach-waves', 'long beach waves', 'female', false, 'long'),
	('f-hollywood-waves', 'glossy side-parted Hollywood waves', 'female', true, 'long'),
	('f-curtain-bangs', 'long hair with curtain bangs', 'female', false, 'long'),
	('f-high-ponytail', 'sleek high ponytail', 'female', false, 'updo'),
	('f-messy-bun', 'loose messy bun', 'female', false, 'updo'),
	('f-chignon', 'low elegant chignon', 'female', true, 'updo'),
	('f-natural-curls', 'shoulder-length natural curls', 'female', false, 'curly'),
	('f-afro', 'large round afro', 'female', false, 'curly'),
	('f-box-braids', 'long box braids', 'female', true, 'braids'),
	('f-dutch-braids', 'two Dutch braids', 'female', false, 'braids'),
	('f-crown-braid', 'braid worn around the head like a crown', 'female', true, 'braids')
), overwritten AS (
	UPDATE public.hairstyles h
	SET name = g.name, image_url = 'hairstyles/' || g.id || '.webp', gender = g.gender::public.gender, is_pro = g.is_pro, category = g.category
	FROM given g WHERE overwrite AND h.id = g.id
)
INSERT INTO public.hairstyles (id, name, image_url, gender, is_pro, category)
SELECT g.id, g.name, 'hairstyles/' || g.id || '.webp', g.gender::public.gender, g.is_pro, g.category
FROM given g ON CONFLICT DO NOTHING;
