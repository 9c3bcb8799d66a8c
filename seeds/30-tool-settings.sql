-- How the model is asked. {name} is the parameter: the name of a hairstyle or skin tone, a colour's code, an enumerated value.
WITH given (tool_id, model, prompt, system_instruction, response_schema, generation_config, timeout) AS (VALUES
	('hairstyle-changer', 'gemini-nano-banana-2.1',
		'Change the hairstyle of the person in this photo to: {hairstyle_id}.[[ Dye the hair in the colour with the hex code {hair_color}.]] '
		'The new hair must fit the head, the hairline and the light of the photo and look like a real cut, not like a wig. '
		'Keep everything else as it is: the face and its identity, expression, skin, make-up, glasses, ears and jewellery, clothes, pose, background, framing and picture quality.',
		'You are a careful photo editor. You change only what is asked for, keep the person recognisable, and answer with exactly one edited photo and no text in the picture.',
		NULL, '{"imageConfig": {"imageSize": "1K"}}', '120 seconds'),
	('hair-color', 'gemini-nano-banana-2.1',
		'Dye the hair of the person in this photo in the colour with the hex code {color}, eyebrows excepted. '
		'Keep the cut, length and texture of the hair, with natural highlights and shadows for the light of the photo. '
		'Keep everything else as it is: the face and its identity, expression, skin, clothes, pose, background, framing and picture quality.',
		'You are a careful photo editor. You change only what is asked for, keep the person recognisable, and answer with exactly one edited photo and no text in the picture.',
		NULL, '{"imageConfig": {"imageSize": "1K"}}', '120 seconds'),
	('skin-tone', 'gemini-nano-banana-2.1',
		'Change the skin tone of the person in this photo to: {color}. Apply it evenly to all visible skin, with its texture, freckles, shadows and highlights kept, so that it looks photographed and not painted. '
		'Keep everything else as it is: facial features and identity, expression, hair, make-up, clothes, pose, background, framing and picture quality.',
		'You are a careful photo editor. You change only what is asked for, keep the person recognisable, and answer with exactly one edited photo and no text in the picture.',
		NULL, '{"imageConfig": {"imageSize": "1K"}}', '120 seconds'),
	('background', 'gemini-nano-banana-2.1',
		'Replace the background of this photo by a new one: {background}. '
		'Cut the person out cleanly, single hairs included, and match light, colour and depth of field so that the photo looks taken there. '
		'Do not change the person: face and identity, expression, hair, skin, clothes, pose and size in the frame stay as they are.',
		'You are a careful photo editor. You change only what is asked for, keep the person recognisable, and answer with exactly one edited photo and no text in the picture.',
		NULL, '{"imageConfig": {"imageSize": "1K"}}', '120 seconds'),
	('retouch', 'gemini-nano-banana-2.1',
		'Retouch this portrait; strength: {strength}. Even out the skin tone, soften blemishes, redness and dark circles, and brighten the eyes a little. '
		'With strength low hardly anything may be noticed; with medium pores and fine lines stay visible; with high the skin may look polished as in a magazine, but still like skin. '
		'Never change the shape of the face or body, moles and scars, hair, make-up style, clothes, background or framing.',
		'You are a careful photo editor. You change only what is asked for, keep the person recognisable, and answer with exactly one edited photo and no text in the picture.',
		NULL, '{"imageConfig": {"imageSize": "1K"}}', '120 seconds'),
	('cartoon', 'gemini-nano-banana-2.1',
		'Redraw this photo as a modern animated-film cartoon: clean shapes, soft shading, warm colours, slightly larger eyes. '
		'The person must stay recognisable: same face shape, hair, skin tone, expression, clothes, pose and composition.',
		'You are an illustrator. You keep the person recognisable and answer with exactly one picture and no text in it.',
		NULL, '{"imageConfig": {"imageSize": "1K"}}', '120 seconds'),
	('vintage', 'gemini-nano-banana-2.1',
		'Make this photo look like a colour print of the 1970s: warm faded colours, soft contrast, fine film grain, a light vignette. '
		'Change only the look of the photo: the person, face and identity, hair, clothes, pose, background and framing stay as they are. No frame, no date stamp, no scratches over the face.',
		'You are a careful photo editor. You change only what is asked for, keep the person recognisable, and answer with exactly one edited photo and no text in the picture.',
		NULL, '{"imageConfig": {"imageSize": "1K"}}', '120 seconds'),
	('face-shape', 'gemini-3.5-flash-lite',
		'Look at the face in this photo and tell its shape from the proportions of forehead, cheekbones, jaw and length. '
		'Recommend haircuts that suit this shape and say in one sentence each why. If no single face can be seen well, say so with face_found false and an empty list.',
		'You are an experienced hair stylist. You describe, you do not judge. You never guess who the person is, nor age, origin or health.',
		'{"type": "object", "properties": {
			"face_found": {"type": "boolean", "description": "Is exactly one face visible well enough?"},
			"shape": {"type": "string", "enum": ["oval", "round", "square", "heart", "diamond", "oblong", "triangle", "unknown"]},
			"confidence": {"type": "number", "minimum": 0, "maximum": 1},
			"explanation": {"type": "string", "description": "One or two sentences on the proportions"},
			"recommendations": {"type": "array", "maxItems": 6, "items": {"type": "object",
				"properties": {"hairstyle": {"type": "string"}, "reason": {"type": "string"}},
				"required": ["hairstyle", "reason"]}}},
		"required": ["face_found", "shape", "confidence", "explanation", "recommendations"]}',
		'{}', '60 seconds'),
	('skin-analysis', 'gemini-3.8-flash',
		'Look at the facial skin in this photo and describe what can be seen, for cosmetic care: skin type, evenness, and for each concern that is visible how strong it is. '
		'Give simple care tips. Take light and camera into account. If no single face can be seen well, say so with face_found false and empty lists.',
		'You are a cosmetician. You give cosmetic, not medical advice, name no diseases, and never guess who the person is, nor age or origin.',
		'{"type": "object", "properties": {
			"face_found": {"type": "boolean", "description": "Is exactly one face visible well enough?"},
			"skin_type": {"type": "string", "enum": ["normal", "dry", "oily", "combination", "sensitive", "unknown"]},
			"evenness": {"type": "integer", "minimum": 0, "maximum": 100, "description": "100 is perfectly even"},
			"hydration": {"type": "integer", "minimum": 0, "maximum": 100, "description": "As far as it can be seen"},
			"concerns": {"type": "array", "maxItems": 8, "items": {"type": "object", "properties": {
				"name": {"type": "string", "enum": ["redness", "dark circles", "visible pores", "shine", "dryness", "fine lines", "blemishes", "uneven tone"]},
				"severity": {"type": "string", "enum": ["low", "medium", "high"]},
				"area": {"type": "string", "description": "Where on the face"}},
				"required": ["name", "severity"]}},
			"tips": {"type": "array", "maxItems": 6, "items": {"type": "string"}}},
		"required": ["face_found", "skin_type", "evenness", "concerns", "tips"]}',
		'{}', '60 seconds'),
	('color-season', 'gemini-3.8-flash',
		'Find the colour season of the person in this photo from skin undertone, hair and eyes, and the contrast between them. '
		'Give colours that suit and colours to avoid as hex codes with a name. Take the light of the photo into account. If no single face can be seen well, say so with face_found false and empty lists.',
		'You are a colour consultant. You describe colours only, and never guess who the person is, nor age, origin or health.',
		'{"type": "object", "properties": {
			"face_found": {"type": "boolean", "description": "Is exactly one face visible well enough?"},
			"season": {"type": "string", "enum": ["spring", "summer", "autumn", "winter", "unknown"]},
			"undertone": {"type": "string", "enum": ["warm", "cool", "neutral", "unknown"]},
			"contrast": {"type": "string", "enum": ["low", "medium", "high", "unknown"]},
			"confidence": {"type": "number", "minimum": 0, "maximum": 1},
			"best_colors": {"type": "array", "maxItems": 10, "items": {"type": "object",
				"properties": {"hex": {"type": "string", "description": "#rrggbb"}, "name": {"type": "string"}}, "required": ["hex", "name"]}},
			"colors_to_avoid": {"type": "array", "maxItems": 6, "items": {"type": "object",
				"properties": {"hex": {"type": "string", "description": "#rrggbb"}, "name": {"type": "string"}}, "required": ["hex", "name"]}},
			"explanation": {"type": "string", "description": "Two or three sentences"}},
		"required": ["face_found", "season", "undertone", "contrast", "confidence", "best_colors", "colors_to_avoid", "explanation"]}',
		'{}', '60 seconds')
), overwritten AS (
	UPDATE sparky.tool_settings s
	SET model = g.model, prompt = g.prompt, system_instruction = g.system_instruction, response_schema = g.response_schema::jsonb,
		generation_config = g.generation_config::jsonb, cache_ttl = NULL, timeout = g.timeout::interval
	FROM given g WHERE overwrite AND s.tool_id = g.tool_id
)
INSERT INTO sparky.tool_settings (tool_id, model, prompt, system_instruction, response_schema, generation_config, timeout)
SELECT g.tool_id, g.model, g.prompt, g.system_instruction, g.response_schema::jsonb, g.generation_config::jsonb, g.timeout::interval
FROM given g ON CONFLICT DO NOTHING;
