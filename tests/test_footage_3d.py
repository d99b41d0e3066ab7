# SPDX-License-Identifier: GPL-3.0-or-later
"""Joints in space from cameras: a made-up person before made-up cameras, and what goes wrong with real ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from neural_avatar.neural_backend.interface.camera import Camera
from neural_avatar.neural_backend.interface.messages import BackendError
from neural_avatar.neural_backend.interface.skeleton import BODY_JOINTS, INDEX
from neural_avatar.training.footage import bones, sides, world
from neural_avatar.training.footage.calibrate import fit_camera, match_cameras
from neural_avatar.training.footage.monocular import MonocularOptions, reconstruct_single
from neural_avatar.training.footage.multiview import MultiviewOptions, reconstruct
from neural_avatar.training.footage.optics import to_pixels, to_rays
from neural_avatar.training.footage.records import CalibratedCamera, Detections
from neural_avatar.training.footage.smooth import fill_short_gaps, low_pass
from neural_avatar.training.footage.windows import in_windows

STANDING = {
    "Nose": (0, -0.12, 1.58), "Neck": (0, 0, 1.43), "MidHip": (0, 0, 0.93), "REye": (-0.03, -0.1, 1.62),
    "LEye": (0.03, -0.1, 1.62), "REar": (-0.08, 0, 1.6), "LEar": (0.08, 0, 1.6),
    **{s + n: (x * (1 if s == "L" else -1), y, z) for s in "LR" for n, x, y, z in (
        ("Shoulder", 0.18, 0, 1.43), ("Elbow", 0.25, 0.02, 1.12), ("Wrist", 0.27, -0.05, 0.86), ("Hip", 0.1, 0, 0.93),
        ("Knee", 0.1, -0.02, 0.5), ("Ankle", 0.1, 0.02, 0.08), ("BigToe", 0.1, -0.16, 0.02),
        ("Heel", 0.1, 0.06, 0.02))},
}  # fmt: skip
HEIGHT = 1.75


def turned(points: np.ndarray, angle: np.ndarray, axis: str, about: np.ndarray) -> np.ndarray:
    """(T, N, 3) points turned by (T,) radians about (T, 3) around x or z."""
    c, s, o, i = np.cos(angle), np.sin(angle), np.zeros_like(angle), np.ones_like(angle)
    rows = [[i, o, o], [o, c, -s], [o, s, c]] if axis == "x" else [[c, -s, o], [s, c, o], [o, o, i]]
    matrix = np.moveaxis(np.array(rows), -1, 0)
    return np.einsum("tij,tnj->tni", matrix, points - about[:, None]) + about[:, None]


def person(count: int, rate: float = 30.0) -> np.ndarray:
    """(T, 137, 3) somebody who swings arms and legs, turns and walks about; small toes, hands and face are 0."""
    t = np.arange(count) / rate
    j = np.zeros((count, 137, 3))
    for name, place in STANDING.items():
        j[:, INDEX[name]] = place
    for side, sign in (("L", 1), ("R", -1)):
        for chain, size in ((("Shoulder", "Elbow", "Wrist"), 0.9), (("Hip", "Knee", "Ankle", "BigToe", "Heel"), -0.5)):
            columns = [INDEX[side + n] for n in chain]
            swing = sign * size * np.sin(2 * np.pi * 0.9 * t)
            j[:, columns[1:]] = turned(j[:, columns[1:]], swing, "x", j[:, columns[0]])
            bend = (0.4 if chain[0] == "Shoulder" else -0.5) * (1 + np.sin(2 * np.pi * 0.9 * t + sign))
            j[:, columns[2:]] = turned(j[:, columns[2:]], -bend, "x", j[:, columns[1]])
    known = [INDEX[n] for n in STANDING]
    j[:, known] = turned(j[:, known], 0.6 * np.sin(1.1 * t), "z", np.zeros((count, 3)))
    j[:, known] += np.stack([0.4 * np.sin(0.7 * t), 0.3 * np.cos(0.9 * t), 0.02 * np.sin(8 * t)], -1)[:, None]
    return j


def looking(name: str, angle: float, distance: float = 4.0, height: float = 1.4, **more: object) -> CalibratedCamera:
    """A camera on a ring around the origin, looking at the person's middle."""
    place = np.array([distance * np.sin(angle), -distance * np.cos(angle), height])
    z = np.array([0, 0, 1.0]) - place
    z /= np.linalg.norm(z)
    x = np.cross(z, [0, 0, 1])
    x /= np.linalg.norm(x)
    r = np.stack([x, np.cross(z, x), z])
    k = np.array([[900.0, 0, 360], [0, 900, 480], [0, 0, 1]])
    return CalibratedCamera(name, Camera(k, r, -r @ place, 720, 960), **{"up": "z", **more})  # type: ignore[arg-type]


RING = tuple(looking(f"cam{i}", angle) for i, angle in enumerate((0.0, 1.3, 2.7, 4.4)))


def filmed(
    joints: np.ndarray, camera: CalibratedCamera, noise: float = 1.0, seed: int = 0, rate: float = 30.0
) -> Detections:
    """What a good pose model finds of the person: pixels with noise, and its own guess in 3D, 3 cm off."""
    rng = np.random.default_rng(seed)
    known = [INDEX[n] for n in STANDING]
    points, confidence = np.zeros((len(joints), 137, 2)), np.zeros((len(joints), 137))
    points[:, known] = to_pixels(joints[:, known], camera) + rng.normal(0, noise, (len(joints), len(known), 2))
    confidence[:, known] = 0.9
    guess = np.full((len(joints), 137, 3), np.nan)
    seen = joints[:, known] @ camera.camera.R.T
    guess[:, known] = seen - seen[:, [known.index(INDEX["MidHip"])]] + rng.normal(0, 0.03, seen.shape)
    times = np.arange(len(joints)) / rate
    return Detections(*(v.astype(np.float32) for v in (points, confidence)), times, camera.camera.width,
                      camera.camera.height, f"{camera.name}.mp4", guess.astype(np.float32))  # fmt: skip


def films(joints: np.ndarray, noise: float = 1.0) -> list[Detections]:
    return [filmed(joints, camera, noise, i) for i, camera in enumerate(RING)]


def millimetres(found: np.ndarray, truth: np.ndarray, confidence: np.ndarray) -> np.ndarray:
    """Errors of the body joints that were found and exist."""
    known = [INDEX[n] for n in STANDING]
    error = 1000 * np.linalg.norm(found[:, known] - truth[:, known], axis=-1)
    return error[confidence[:, known] > 0]


def sentence(code: str, make: object) -> str:
    """The sentence of the BackendError that ``make()`` raises."""
    with pytest.raises(BackendError) as caught:
        make()  # type: ignore[operator]
    assert caught.value.code == code
    return caught.value.message


def test_a_pixel_of_noise_leaves_millimetres() -> None:
    truth = person(60)
    result = reconstruct(films(truth), RING, MultiviewOptions(refine=False))
    assert (result.motion.confidence[:, [INDEX[n] for n in STANDING]] > 0.5).all()
    error = millimetres(result.motion.joints, truth, result.motion.confidence)
    assert error.mean() < 4 and np.percentile(error, 99) < 15
    assert np.nanmedian(result.reprojection) < 2
    assert result.offsets == (0, 0, 0, 0)
    assert (result.frames == np.arange(60)[:, None]).all()
    assert all(sd < 0.004 for _, sd, _ in bones.spreads(result.motion.joints, result.motion.confidence).values())
    for camera, calibrated in zip(result.cameras, RING, strict=True):  # a calibrated world with Z up is not touched
        assert np.array_equal(camera.camera.R, calibrated.camera.R)
        assert np.array_equal(camera.camera.t, calibrated.camera.t)


def test_what_nobody_saw_is_not_made_up() -> None:
    found = films(person(40))
    toes = [INDEX["LSmallToe"], INDEX["RSmallToe"]]
    for d in found[1:]:
        d.confidence[:, INDEX["LWrist"]] = 0  # left to one camera alone
    for d in found:
        d.confidence[5:20, INDEX["RAnkle"]] = 0  # half a second
        d.confidence[30:33, INDEX["RWrist"]] = 0  # a tenth
        d.confidence[36:, :] = 0  # has left
    motion = reconstruct(found, RING, MultiviewOptions(refine=False)).motion
    assert (motion.confidence[:, [*toes, INDEX["LWrist"]]] == 0).all()
    assert (motion.confidence[:, len(BODY_JOINTS) :] == 0).all()
    assert (motion.confidence[5:20, INDEX["RAnkle"]] == 0).all() and (motion.confidence[:5, INDEX["RAnkle"]] > 0).all()
    gap = motion.confidence[30:33, INDEX["RWrist"]]
    assert (gap > 0).all() and (gap < 0.6 * motion.confidence[29, INDEX["RWrist"]]).all()
    assert (motion.confidence[36:] == 0).all()
    assert (motion.joints[motion.confidence == 0] == 0).all()


def test_a_frame_without_trunk_is_nobody() -> None:
    found = films(person(40))
    for d in found:
        d.confidence[10:25, INDEX["LHip"]] = 0
    motion = reconstruct(found, RING, MultiviewOptions(refine=False)).motion
    assert (motion.confidence[10:25] == 0).all() and (motion.confidence[:10, INDEX["Neck"]] > 0).all()


def test_outliers_and_a_missing_view_do_little() -> None:
    truth = person(60)
    found = films(truth)
    rng = np.random.default_rng(1)
    wild = rng.random((60, 137)) < 0.1
    found[1].points[wild] += rng.normal(0, 150, (int(wild.sum()), 2)).astype(np.float32)
    found[3].confidence[20:40] = 0
    result = reconstruct(found, RING, MultiviewOptions(refine=False))
    error = millimetres(result.motion.joints, truth, result.motion.confidence)
    assert error.mean() < 8 and np.percentile(error, 99) < 40


def test_two_cameras_that_contradict_one_another_give_no_joint() -> None:
    found = films(person(30))[:2]
    found[1].points[:, INDEX["RWrist"]] += (0, 200)
    motion = reconstruct(found, RING[:2], MultiviewOptions(refine=False)).motion
    assert (motion.confidence[:, INDEX["RWrist"]] == 0).all() and (motion.confidence[:, INDEX["LWrist"]] > 0).all()


def test_cameras_out_of_step_are_found() -> None:
    truth = person(130)
    found = [filmed(truth[start : start + 110], camera, 1.0, i) for i, (camera, start) in
             enumerate(zip(RING, (8, 8, 4, 11), strict=True))]  # fmt: skip
    found[2] = filmed(truth[4:90], RING[2], 1.0, 2)  # and stops early
    result = reconstruct(found, RING, MultiviewOptions(refine=False))
    assert np.allclose(result.offsets, (0, 0, 4, -3), atol=0.35)
    row = int(np.nonzero(result.frames[:, 0] == 20)[0][0])
    assert result.frames[row].tolist() == [20, 20, 24, 17]
    assert (result.frames[-3:, 2] == -1).all()
    aligned = truth[result.frames[:, 0][result.frames[:, 0] >= 0] + 8]
    rows = result.frames[:, 0] >= 0
    assert millimetres(result.motion.joints[rows], aligned, result.motion.confidence[rows]).mean() < 10


def test_few_frames_tell_the_step_coarsely_which_is_said() -> None:
    truth = person(240, 60.0)
    whole = [filmed(truth[3:] if i == 2 else truth, camera, 1.0, i, 60.0) for i, camera in enumerate(RING)]

    def notes(every: int, **options: bool) -> str:
        used = [
            replace(d, points=d.points[::every], confidence=d.confidence[::every], times=d.times[::every], world=None)
            for d in whole
        ]
        return " ".join(reconstruct(used, RING, MultiviewOptions(refine=False, **options)).notes)

    assert "10 frames a second" in notes(6) and "50 ms" in notes(6) and "--every" in notes(6)
    assert "into step" not in notes(2) and "into step" not in notes(6, synchronise=False)


def test_a_person_who_stands_still_tells_no_offset() -> None:
    found = films(np.repeat(person(1), 60, 0))
    assert reconstruct(found, RING, MultiviewOptions(refine=False)).offsets == (0, 0, 0, 0)


def test_a_camera_that_was_touched_is_put_right_and_the_world_kept() -> None:
    truth = person(60)
    k = RING[2].camera
    tilt, lean = np.radians(0.8), np.radians(-0.5)
    a = np.array([[1, 0, 0], [0, np.cos(tilt), -np.sin(tilt)], [0, np.sin(tilt), np.cos(tilt)]])
    b = np.array([[np.cos(lean), 0, np.sin(lean)], [0, 1, 0], [-np.sin(lean), 0, np.cos(lean)]])
    wrong = (*RING[:2], replace(RING[2], camera=replace(k, R=a @ b @ k.R, t=a @ b @ k.t)), RING[3])
    before = reconstruct(films(truth), wrong, MultiviewOptions(refine=False))
    after = reconstruct(films(truth), wrong)
    assert np.nanmedian(after.reprojection[:, 2]) < 2.5 < 5 < np.nanmedian(before.reprojection[:, 2])
    places = [np.stack([-c.camera.R.T @ c.camera.t for c in cameras]) for cameras in (wrong, after.cameras)]
    extent = [np.linalg.norm(p - p.mean(0)) for p in places]
    assert abs(extent[1] / extent[0] - 1) < 1e-6 and np.abs(places[1] - places[0]).max() < 0.05
    assert millimetres(after.motion.joints, truth, after.motion.confidence).mean() < 25


def test_left_and_right_mixed_up_by_one_camera_are_put_right() -> None:
    truth = person(60)
    found = films(truth)
    flip = np.zeros((60, 2), bool)
    flip[15:35] = True
    found[0] = replace(found[0], points=sides.swap(np.asarray(found[0].points, np.float64), flip).astype(np.float32))
    result = reconstruct(found, RING, MultiviewOptions(refine=False))
    assert millimetres(result.motion.joints, truth, result.motion.confidence).mean() < 6
    assert (sides.find_jumps(found[0].points, found[0].confidence, found[0].times)[:, 0] == flip[:, 0]).all()
    assert not sides.find_jumps(found[1].points, found[1].confidence, found[1].times).any()


def test_up_comes_from_the_calibration_or_the_person_or_the_user() -> None:
    truth = person(30)
    y_up = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])  # Z up to Y up
    for said in ("y", ""):
        cameras = [replace(world.move_camera(c, y_up, np.zeros(3)), up=said) for c in RING]
        result = reconstruct(films(truth), cameras, MultiviewOptions(refine=False))
        assert millimetres(result.motion.joints, truth, result.motion.confidence).mean() < 5
        assert any("stands along its y" in note for note in result.notes) == (said == "")
    leaning = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0]
    leaning *= np.sign(np.linalg.det(leaning))
    cameras = [replace(world.move_camera(c, leaning, np.zeros(3)), up="") for c in RING]
    result = reconstruct(films(truth), cameras, MultiviewOptions(refine=False))
    assert world.upright(result.motion.joints, result.motion.confidence)[0][2] > 0.99
    assert abs(world.floor_height(result.motion.joints, result.motion.confidence)) < 0.01
    assert "'w'" in sentence("up-axis", lambda: reconstruct(films(truth), RING, MultiviewOptions(up="w")))


def test_calibrations_fit_films_of_their_size_only() -> None:
    camera = looking("cam01", 0.0)  # 720x960
    assert fit_camera(camera, 720, 960) == (camera, "")
    scaled, note = fit_camera(camera, 1440, 1920)
    assert np.allclose(scaled.camera.K[:2], 2 * camera.camera.K[:2]) and "scaled" in note
    cropped, note = fit_camera(camera, 712, 960)
    assert np.allclose(cropped.camera.K[0, 2], 356) and cropped.camera.K[0, 0] == 900 and "crop" in note
    message = sentence("calibration-size", lambda: fit_camera(camera, 960, 720))
    assert all(part in message for part in ("cam01", "720x960", "960x720", "turned"))
    assert "800x960" in sentence("calibration-size", lambda: fit_camera(camera, 800, 960))


def test_films_find_their_cameras_by_name_then_by_order() -> None:
    cameras = [looking(name, 0.0) for name in ("cam1", "cam10", "cam2")]
    chosen, notes = match_cameras(cameras, ["take3_cam10", "take3_cam1"])
    assert [c.name for c in chosen] == ["cam10", "cam1"] and "cam2" in notes[0]
    chosen, notes = match_cameras(cameras, ["left", "right", "top"])
    assert [c.name for c in chosen] == ["cam1", "cam10", "cam2"] and "order" in notes[0]
    assert "3 cameras" in sentence("calibration-cameras", lambda: match_cameras(cameras, ["left", "right"]))


def test_several_cameras_need_several_films_of_one_moment() -> None:
    found = films(person(20))
    sentence("footage-cameras", lambda: reconstruct(found[:1], RING[:1]))
    later = replace(found[1], times=found[1].times + 100)
    sentence("footage-overlap", lambda: reconstruct([found[0], later], RING[:2], MultiviewOptions(synchronise=False)))
    for d in found:
        d.confidence[:] = 0
    sentence("footage-nobody", lambda: reconstruct(found, RING))


@pytest.mark.parametrize("fisheye", [False, True])
def test_lenses_are_undone_and_applied(fisheye: bool) -> None:
    lens = (0.05, -0.02, 0.003, 0.001) if fisheye else (-0.2, 0.05, 0.001, -0.002)
    camera = looking("wide", 0.3, distortion=lens, fisheye=fisheye)
    x = np.random.default_rng(0).uniform((-0.8, -0.8, 0.2), (0.8, 0.8, 1.8), (50, 3))
    p = camera.camera.to_camera(x)
    assert np.allclose(to_rays(to_pixels(x, camera), camera), p[:, :2] / p[:, 2:], atol=2e-4)
    assert np.isnan(to_pixels(np.array([[0, -10.0, 1.4]]) * 3, camera)).all()


def test_a_strong_lens_is_undone_up_to_the_corners() -> None:
    """OpenCV's five rounds leave 20 pixels at the corners of an action camera's picture."""
    k = np.array([[1000.0, 0, 960], [0, 1000, 540], [0, 0, 1]])
    camera = CalibratedCamera("a", Camera(k, np.eye(3), np.zeros(3), 1920, 1080), (-0.35, 0.15, 0.001, 0.001))
    corners = np.array([[0.5, 0.5], [1919.5, 0.5], [0.5, 1079.5], [960.0, 0.5], [0.5, 540.0]])
    rays = to_rays(corners, camera)
    back = to_pixels(np.concatenate([rays, np.ones((5, 1))], 1), camera)
    assert np.allclose(back, corners, atol=1e-3)


def test_one_camera_gives_the_pose() -> None:
    truth = person(90)
    camera = RING[0]
    result = reconstruct_single(filmed(truth, camera), camera, MonocularOptions(height=HEIGHT))
    motion = result.motion
    assert np.nanmedian(result.reprojection) < 2
    for median, sd, _ in bones.spreads(motion.joints, motion.confidence).values():
        assert sd < 0.03 * median
    hip = INDEX["MidHip"]
    scale = bones.body_height(truth, motion.confidence) / bones.body_height(motion.joints, motion.confidence)
    error = millimetres(scale * (motion.joints - motion.joints[:, [hip]]), truth - truth[:, [hip]], motion.confidence)
    assert error.mean() < 35
    assert bones.body_height(motion.joints, motion.confidence) == pytest.approx(HEIGHT, rel=1e-3)
    assert any("height" in n or "tall" in n for n in result.notes)


def test_one_camera_of_which_nothing_is_known_stands_level_on_the_floor() -> None:
    found = filmed(person(60), looking("phone", 0.4, height=1.0))
    result = reconstruct_single(found)
    motion, camera = result.motion, result.cameras[0].camera
    assert camera.K[0, 0] == 1.2 * 960 and any("--focal" in note for note in result.notes)
    assert world.upright(motion.joints, motion.confidence)[0][2] > 0.97
    assert abs(world.floor_height(motion.joints, motion.confidence)) < 0.01
    assert (-camera.R.T @ camera.t)[1] < -2  # before the person, on the side of -Y
    assert reconstruct_single(found, None, MonocularOptions(focal=900)).cameras[0].camera.K[0, 0] == 900


def test_windows_blend_into_what_a_single_window_gives() -> None:
    found = filmed(person(150), RING[0])
    whole = reconstruct_single(found, RING[0], MonocularOptions(window=200)).motion.joints
    told: list[tuple[int, int]] = []
    parts = reconstruct_single(
        found, RING[0], MonocularOptions(window=70, overlap=30), lambda done, total: told.append((done, total))
    ).motion.joints
    assert np.linalg.norm(whole - parts, axis=-1).max() < 0.03
    assert told[-1] == (150, 150) and len(told) > 1
    line = np.arange(1000.0)
    assert np.allclose(in_windows(1000, lambda rows: line[rows]), line)


def test_one_camera_invents_nobody() -> None:
    found = filmed(person(90), RING[0])
    found.confidence[30:60] = 0
    found.confidence[70:73, INDEX["LWrist"]] = 0
    motion = reconstruct_single(found, RING[0]).motion
    assert (motion.confidence[30:60] == 0).all() and (motion.joints[30:60] == 0).all()
    assert (motion.confidence[60:, INDEX["Neck"]] > 0).all()
    assert (motion.confidence[70:73, INDEX["LWrist"]] > 0).all()
    found.confidence[:] = 0
    sentence("footage-nobody", lambda: reconstruct_single(found, RING[0]))
    assert "--lift" in sentence("footage-depth", lambda: reconstruct_single(replace(found, world=None), RING[0]))


def test_hands_hang_on_their_wrists() -> None:
    truth = person(30)
    hand = slice(INDEX["LHand_Wrist"], INDEX["LHand_Wrist"] + 21)
    truth[:, hand] = truth[:, [INDEX["LWrist"]]] + np.random.default_rng(2).uniform(-0.08, 0.08, (21, 3))
    found = filmed(truth, RING[0])
    found.points[:, hand] = to_pixels(truth[:, hand], RING[0])
    found.confidence[:15, hand] = 0.9
    seen = truth @ RING[0].camera.R.T
    assert found.world is not None
    found.world[:, hand] = seen[:, hand] - seen[:, [INDEX["MidHip"]]]
    motion = reconstruct_single(found, RING[0]).motion
    assert (motion.confidence[:15, hand] > 0).all() and (motion.confidence[15 + 6 :, hand] == 0).all()
    off = motion.joints[:15, hand] - motion.joints[:15, [INDEX["LWrist"]]]
    assert np.linalg.norm(off - (truth[:15, hand] - truth[:15, [INDEX["LWrist"]]]), axis=-1).mean() < 0.03


def test_the_low_pass_keeps_motion_and_takes_jitter() -> None:
    t = np.arange(240) / 60
    slow = np.stack([np.sin(2 * np.pi * t), np.cos(2 * np.pi * t), t], -1)[:, None]
    noisy = slow + np.random.default_rng(0).normal(0, 0.01, slow.shape)
    c = np.ones((240, 1))
    out = low_pass(noisy, c, t)
    assert np.abs(out - slow).mean() < 0.5 * np.abs(noisy - slow).mean()
    assert np.abs(np.diff(out - slow, 2, axis=0)).mean() < 0.1 * np.abs(np.diff(noisy - slow, 2, axis=0)).mean()
    assert np.abs(low_pass(slow, c, t) - slow).max() < 0.01  # no lag, ends hold
    assert np.array_equal(low_pass(noisy, c, t * 10), noisy)  # 6 frames a second: off
    broken = noisy.copy()
    broken[100:140], c[100:140] = 1e6, 0
    assert np.abs(low_pass(broken, c, t)[c[:, 0] > 0] - slow[c[:, 0] > 0]).max() < 0.03
    uneven = np.sort(np.random.default_rng(1).uniform(0, 4, 240))
    still = np.ones((240, 1, 3))
    assert np.allclose(low_pass(still, np.ones((240, 1)), uneven), still)
    filled, confidence = fill_short_gaps(np.where(c[..., None] > 0, slow, 0), c, t)
    assert (confidence[100:140] == 0).all() and (filled[100:140] == 0).all()
