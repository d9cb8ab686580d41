"""One facet per stage: what exactly one stage knows about a row.

Scores are data; thresholds live in stage configs. Boxes are corner pixels ``xyxy`` in clip space,
intervals are half-open, shares are in ``[0, 1]``. Per-frame arrays live in one safetensors file per
clip and stage; each facet's docstring lists that file's keys. ``T`` counts all frames of the clip
file, motion context first; missing values are NaN.
"""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from schemas.base import BackendRef, FileRef, Model
from schemas.clock import FPS

Share = Annotated[float, Field(ge=0.0, le=1.0)]
NonNegative = Annotated[float, Field(ge=0.0)]
MeanOpinion = Annotated[float, Field(ge=1.0, le=5.0)]


class LeftOut(Model):
    """Seconds of a source that are not used, and why."""

    reason: str
    seconds: NonNegative


class ProbeFacet(Model):
    """What a source file really holds, from decoding it to the end once."""

    container: str
    video_codec: str
    pixel_format: str
    width_px: int = Field(gt=0)
    height_px: int = Field(gt=0)
    """Display size: after rotation and sample aspect ratio."""
    rotation_deg: int
    is_mirrored: bool = False
    """Left and right change places before the turn, as a front camera's display matrix may ask."""
    sample_aspect_ratio: float = Field(gt=0)
    num_frames: int = Field(gt=0)
    duration_s: float = Field(gt=0)
    """Of the pictures that are used, from decoded timestamps, never from the container."""
    average_fps: float = Field(gt=0)
    """While pictures come: pauses are left out."""
    is_vfr: bool
    has_audio: bool
    audio_sample_rate_hz: int = Field(ge=0)
    audio_duration_s: NonNegative
    num_recordings: int = Field(ge=1, default=1)
    """Runs of a clock: more than one where a recording was appended or its clock started again."""
    left_out: tuple[LeftOut, ...] = ()
    """What the source holds besides ``duration_s``: both together are all of it."""
    damaged_share: Share = 0.0
    """Share of the pictures that could not be used."""
    salvage: bool = False
    """Read with ``probe.salvage``: damage was left out instead of refusing the source."""


class ClipTransform(Model):
    """Maps display pixels of the source to clip pixels: ``x_clip = x_src * scale_x + offset_x_px``."""

    scale_x: float = Field(gt=0)
    scale_y: float = Field(gt=0)
    offset_x_px: float
    offset_y_px: float


class MediaFacet(Model):
    """The clip's own files. Frames ``[0, num_motion_frames)`` are context, the rest is the target.

    ``video``: H.264, constant 25 fps, exactly ``num_frames`` frames. ``audio``: 16 kHz mono PCM wav of
    exactly ``num_frames * 640`` samples, the same window; None where the source has no sound.
    """

    video: FileRef
    audio: FileRef | None
    width_px: int = Field(gt=0)
    height_px: int = Field(gt=0)
    fps: int = FPS
    num_frames: int = Field(gt=0)
    num_motion_frames: int = Field(ge=0)
    shot_index: int = Field(ge=0)
    shot_start_s: float
    shot_end_s: float
    transform: ClipTransform
    detector: BackendRef


class TakeTraits(Model):
    """What a take is known by when it comes again mirrored, cropped or under a caption (stages/screening/same_take.py)."""

    rhythm: str
    """Base64 of u8 (3,T-1): ranks of luma change, vertical and horizontal flow of every step."""
    glances: str
    """Base64 of u8 (4,24,24): luma of four evenly spread frames."""


class QualityFacet(Model):
    """Picture scores over the clip."""

    sharpness: NonNegative
    """Median over frames of the variance of the Laplacian of grey [0, 255] at 480 px short side."""
    luma_mean: Share
    dark_share: Share
    bright_share: Share
    motion_px: NonNegative
    """Mean optical-flow magnitude per frame step, in pixels at 240 px short side."""
    freeze_share: Share
    """Share of frame steps without any change beyond coding noise."""
    longest_freeze_s: NonNegative
    border_share: Share
    """Share of the picture that bars cover: black, flat, shaded, or a blurred copy of the picture."""
    text_area_share: Share
    """Share of the picture covered by overlay text, the largest of the sampled frames."""
    num_text_regions: int = Field(ge=0)
    phash: str = Field(pattern=r"^([0-9a-f]{16}){1,4}$")
    """Perceptual hashes of up to four frames, 64 bits each: few differing bits mean near-duplicates."""
    take: TakeTraits | None = None
    """None where the clip is too short, and in what stage version 1 wrote."""


class SpeechFacet(Model):
    """Sound scores over the clip. All zero and ``has_audio`` false where there is no sound."""

    has_audio: bool
    loudness_lufs: float = Field(ge=-120, le=20)
    """Integrated loudness (ITU-R BS.1770); -120 stands for silence."""
    peak_dbfs: float = Field(ge=-120, le=20)
    voiced_share: Share
    digital_silence_share: Share
    """Share of samples inside runs of exact zeros of at least 20 ms."""
    clipping_share: Share
    speech_mos: MeanOpinion | None = None
    """How undistorted the voice sounds, 1 to 5 (DNSMOS P.835); None where there is nothing to hear or it was not asked."""
    background_mos: MeanOpinion | None = None
    """How little noise and music there is: clean speech has 3.5 and more, music 5 dB below the voice leaves 1.2 to 2.4."""
    overall_mos: MeanOpinion | None = None
    still_while_voiced_share: Share | None = None
    """Share of voiced frames around which the lips do not move: somebody else speaks. None: too few frames to tell."""
    moving_while_silent_share: Share | None = None
    """Share of frames away from any voice in which the lips move: sound is missing. None: too few frames to tell."""
    sync_offset_frames: int | None = None
    """The sound is late by so many frames of 40 ms, early where negative. None: not asked, or too little of a face."""
    sync_confidence: NonNegative | None = None
    """How far the best shift lies below the median of all, in distance of embeddings."""
    backend: BackendRef
    sound_backend: BackendRef | None = None
    """What gave the three opinion scores."""
    sync_backend: BackendRef | None = None
    """What looked for the shift of the sound; None: not asked."""


class DetectFacet(Model):
    """People, faces and hands over time; ``stages/kit/landmarks.py`` writes and reads the arrays.

    Arrays: ``{face,left_hand,right_hand}_box_xyxy_px`` (T,4) f32; ``{face,left_hand,right_hand}_score``
    (T,) f32; ``{face,left_hand,right_hand}_is_filled`` (T,) u8, 1 where a short gap was interpolated;
    ``{left,right}_hand_landmarks_px`` (T,21,3) f32, x and y in pixels, z relative, same scale;
    ``{left,right}_hand_world_m`` (T,21,3) f32; ``pose_landmarks_px`` (T,33,4) f32 x, y, z, visibility;
    ``pose_world_m`` (T,33,3) f32; ``face_landmarks_px`` (T,468,3) f32; ``person_count`` (T,) i32;
    ``matte_rle_counts`` u32 and ``matte_rle_offsets`` (T+1,) i64: person matte, see stages/kit/masks.py.
    Left and right are the person's own.
    """

    arrays: FileRef
    face_share: Share
    """Share of target frames with a face (filled gaps count)."""
    left_hand_share: Share
    right_hand_share: Share
    any_hand_share: Share
    pose_share: Share
    filled_share: Share
    multi_person_share: Share
    """Share of target frames with more than one person."""
    max_person_count: int = Field(ge=0)
    median_face_height_px: NonNegative
    matte_area_share: Share
    backend: BackendRef
    """What made landmarks, boxes and matte."""
    people_backend: BackendRef | None = None
    """What counted people; None in what stage version 1 wrote."""


class ObjectsFacet(Model):
    """The held product's mask over time.

    Arrays: ``mask_rle_counts`` u32, ``mask_rle_offsets`` (T+1,) i64; ``confidence`` (T,) f32 in [0, 1];
    ``box_xyxy_px`` (T,4) f32; ``in_hand`` (T,2) u8: touches the left, right hand.
    """

    arrays: FileRef
    visible_share: Share
    """Share of target frames with a mask."""
    in_hand_share: Share
    holding_hand_share: Share = 1.0
    """Share of the frames with a mask in which a hand that holds it is seen."""
    confidence: Share
    """Median over target frames of the mask's expected IoU with the truth. The gate uses it."""
    area_share: Share
    flicker: Share
    """Mean over steps of 1 - IoU with the previous mask moved by optical flow."""
    area_jump_share: Share = 0.0
    """Share of steps in which the mask becomes larger or smaller by more than 4 : 3, or comes or goes."""
    second_product_share: Share = 0.0
    """Share of key frames in which the other hand holds something else; 0 where the backend cannot tell."""
    backend: BackendRef


class ReferencesFacet(Model):
    """Person reference (product removed and filled) and product reference (cut out on white)."""

    person_image: FileRef
    product_image: FileRef
    person_frame: int = Field(ge=0)
    product_frame: int = Field(ge=0)
    filled_share: Share
    """Share of the person image that was filled in."""
    person_held_chance: Share | None = None
    """Chance that a hand of the person image still holds something, by a network that knows nothing of the product mask.
    None: not asked (``person_held_backend`` None), or no hand to look at."""
    person_hands_kept_share: Share | None = None
    """Of the hands that are seen in the frame, how many are still found in the image in their place with five fingers.
    None: none was seen."""
    person_seam: NonNegative | None = None
    """Steps of colour across the edge of what was filled over steps beside it: 1 is no seam. None: nothing was filled."""
    person_held_backend: BackendRef | None = None
    """What gave ``person_held_chance``; None: nothing was looked for (``references.look_again`` off)."""
    product_height_px: int = Field(gt=0)
    product_width_px: int = Field(gt=0)
    product_confidence: Share
    product_truncated: bool
    """True where the cut-out touches the border of the frame."""
    product_sharpness: NonNegative
    """Variance of the Laplacian inside the cut-out, its outline left out."""
    product_outline_share: Share | None = None
    """Share of the outline that neither the frame's border nor a finger touches. None in what stage version 1 wrote."""
    product_gap_share: Share | None = None
    """Share of the product that fingers hide and no other frame shows."""
    product_borrowed_share: Share | None = None
    """Share of the product that fingers hide and other frames show: taken from there."""
    backend: BackendRef


class TripletsFacet(Model):
    """Do source, person and product references belong together?"""

    person_similarity: Share
    product_similarity: Share
    product_leak: Share
    """How much of the product is still visible in the person image: 0 none, 1 all."""
    hand_in_product_share: Share
    """Share of the product cut-out that looks like the person's skin inside a hand box."""
    face_kept: bool
    """The person image still shows one face where the clip has it."""
    backend: BackendRef


class BodyFacet(Model):
    """A body fitted to the clip.

    Arrays: ``rotations`` (T,J,3) f32 axis-angle relative to the parent in rest axes, ``translation_m``
    (T,3) f32, ``shape`` (S,) f32 (stages/body_models/linear_body.py gives the convention), ``joints_px``
    (T,J,2) f32, ``is_valid`` (T,) u8, camera ``focal_px`` (1,) and ``principal_px`` (2,) f32; the camera
    looks along -z (OpenGL). ``stages/body_models/open_body.py`` turns them back into vertices.
    A recorded body (``sam3d-body``) has, instead of rotations and shape, ``vertices_m`` (T,V,3) f16 relative to
    the translation, ``faces`` (F,3) i32 and ``part_labels`` (V,) u8: 1 left hand, 2 right hand, 3 head.
    """

    arrays: FileRef
    reprojection_error_head: NonNegative
    """Median distance of trusted landmarks to the mesh's, in head heights."""
    hand_reprojection_error_head: NonNegative
    """The same for the 21 points of each hand; 0 where no hand was seen (``hand_tracked_share`` 0)."""
    hand_tracked_share: Share
    """Share of target frames with a hand whose landmarks were aimed at."""
    jerk: NonNegative
    """Median third difference of joints, in head heights per frame^3."""
    valid_share: Share
    num_left_right_flips: int = Field(ge=0)
    backend: BackendRef


class StructureFacet(Model):
    """The HOI structure stream and how well it touches the picture.

    ``video`` has the clip's size, rate and frame count. Per-frame ``arrays``: ``matte_iou`` (T,) f32,
    ``contact`` (T,2) u8 left, right; ``penetration``, ``depth_conflict`` (T,) f32, NaN without an object (or a
    hand on it); ``is_cut`` (T,) u8; ``body_area``, ``hand_area``, ``object_area`` (T,) f32, areas as shares of
    the picture.
    """

    video: FileRef
    arrays: FileRef
    style: str
    matte_iou: Share
    """Median over target frames of mesh silhouette against person matte."""
    left_contact_share: Share
    right_contact_share: Share
    any_contact_share: Share
    num_contact_onsets: int = Field(ge=0)
    penetration: Share
    """Median share of the object mask lying under the body silhouette but outside the hands."""
    depth_conflict: Share
    """Median share of the object mask that hides what the mesh has in front of the holding hand."""
    object_cut_share: Share
    """Share of target frames in which the object reaches the picture's border."""
    object_visible_share: Share
    body_visible_share: Share
    hand_visible_share: Share
    left_hand_seen_share: Share = 0.0
    right_hand_seen_share: Share = 0.0
    """Share of target frames in which the hand was seen: in others it is drawn as a part of the arm and touches nothing."""
    renderer: BackendRef


class CaptionFacet(Model):
    """Prompt of the clip and of its structure stream."""

    prompt: str = Field(min_length=1, max_length=4000)
    hoi_prompt: str = Field(min_length=1, max_length=4000)
    backend: BackendRef


class ChannelStatistics(Model):
    """What a stream's latents were normalised with, per channel: ``z = (raw - mean) / std``."""

    mean: tuple[float, ...] = Field(min_length=1)
    std: tuple[float, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(self.mean) != len(self.std) or min(self.std) <= 0:
            raise ValueError(
                f"{len(self.mean)} means and {len(self.std)} deviations, smallest {min(self.std)}: expected "
                "as many of both, all deviations above 0"
            )
        return self


class LatentsFacet(Model):
    """Everything that the trainer reads of a clip, in one safetensors file (keys: docs/dataset.md)."""

    arrays: FileRef
    num_latents: int = Field(gt=0)
    num_motion_latents: int = Field(ge=0)
    latent_height: int = Field(gt=0)
    latent_width: int = Field(gt=0)
    codec: BackendRef
    rgb_statistics: ChannelStatistics
    """Of the RGB stream and both references."""
    hoi_statistics: ChannelStatistics
    text_encoder: BackendRef
    audio_encoder: BackendRef
    rgb_psnr_db: float
    """Codec round trip on the target RGB frames."""
    hoi_psnr_db: float
    """Codec round trip on the target frames of the structure stream."""
    has_audio: bool
    is_text_cut: bool
    """True where a prompt was longer than the text encoder's limit."""
