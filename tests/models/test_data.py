import random

import torch
from torch import Tensor

from models.house import scenes
from models.house.captions import caption
from models.house.evaluate import background_colours, held_prompts, pair_prompts
from models.house.scenes import ALONE, FULL
from models.house.source import Source
from models.house.vocabulary import COLOURS, GROUNDS, SUBJECTS, colour_names, held_out


class TestVocabulary:
    def test_no_icon_and_no_name_is_there_twice(self) -> None:
        names = [name for subject in SUBJECTS for name in subject.names]

        assert len({subject.icon for subject in SUBJECTS}) == len(SUBJECTS)
        assert len(set(names)) == len(names)

    def test_every_subject_is_held_out_on_some_colours_and_shown_on_more(self) -> None:
        for number in range(len(SUBJECTS)):
            held = sum(held_out(number, colour) for colour in COLOURS)
            assert 3 <= held <= 4


class TestDrawing:
    def test_the_same_seed_draws_the_same_scenes(self) -> None:
        first, second = random.Random(5), random.Random(5)

        assert [scenes.draw(first, FULL) for _ in range(50)] == [scenes.draw(second, FULL) for _ in range(50)]

    def test_training_never_sees_a_held_out_pair(self) -> None:
        rng = random.Random(1)
        for _ in range(3000):
            scene = scenes.draw(rng, FULL)
            if scene.ground is None:
                assert not any(held_out(place.subject, scene.colour) for place in scene.places)

    def test_held_prompts_are_only_pairs_that_training_never_sees(self) -> None:
        prompts = held_prompts(ALONE)

        assert len(prompts) == 200
        assert all(held_out(scene.places[0].subject, scene.colour) for scene, _ in prompts)
        assert {scene.places[0].subject for scene, _ in prompts} == set(ALONE.subjects)

    def test_pairs_are_judged_only_where_they_are_learned(self) -> None:
        assert pair_prompts(ALONE) == []
        assert all(len(scene.places) == 2 for scene, _ in pair_prompts(FULL))


class TestCaptions:
    def test_a_caption_names_what_is_there(self) -> None:
        rng = random.Random(2)
        for _ in range(500):
            scene = scenes.draw(rng, FULL)
            told = caption(scene, rng).lower()
            for place in scene.places:
                assert any(name in told for name in SUBJECTS[place.subject].names), told
            if scene.untold:
                continue
            if scene.ground is None:
                assert any(name in told for name in colour_names(scene.colour)), told
            else:
                assert any(phrase.split()[-1] in told for phrase in GROUNDS[scene.ground].phrases), told

    def test_unknown_words_fall_into_known_pieces(self, source: Source) -> None:
        pieces = source.words.tokenize("a xylophone, naïve 火")

        assert len(pieces) > 5
        assert source.words.unk_token not in pieces


class TestPainting:
    def test_a_plain_background_has_its_colour(self, pictures: Tensor) -> None:
        rng = random.Random(3)
        drawn = [scenes.single(7, colour, rng) for colour in COLOURS]

        assert background_colours(scenes.paint(drawn, pictures)) == list(COLOURS)

    def test_the_subject_is_where_the_scene_puts_it(self, pictures: Tensor) -> None:
        scene = scenes.pair(2, 9, "white", random.Random(4))
        image = (scenes.paint([scene], pictures)[0] + 1) * 127.5
        for place in scene.places:
            seen = image[:, round(place.y * scenes.IMAGE_PX), round(place.x * scenes.IMAGE_PX)]
            assert (seen - pictures[place.subject, :3, 16, 16]).abs().max() < 2

    def test_grounds_have_land_below_and_stars_at_night(self, pictures: Tensor) -> None:
        images = {
            ground.name: scenes.paint([scenes.Scene((), "red", number, seed=1)], pictures)[0]
            for number, ground in enumerate(GROUNDS)
        }

        assert images["sea"][0, 20].mean() > images["sea"][0, -20].mean()  # the sky is lighter than the water
        assert (images["night"].amin(0) > 0.4).any()
        assert not torch.equal(images["meadow"][:, 0], images["meadow"][:, -1])
