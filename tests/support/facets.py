"""Facets as the stages write them for an ordinary clip; a test names only what it is about."""

from __future__ import annotations

from typing import Any

from schemas import facets as f
from schemas.base import BackendRef, FileRef

TOY = BackendRef(name="toy", version="1", licence="none")
FILE = FileRef(sha256="a" * 64, suffix=".bin", num_bytes=1)
"""Of a file that nobody reads."""
UNIT = f.ChannelStatistics(mean=(0.0,), std=(1.0,))


def probe_facet(**changes: Any) -> f.ProbeFacet:
    """Four seconds of silent H.264, 640x480."""
    usual = {
        "container": "mp4",
        "video_codec": "h264",
        "pixel_format": "yuv420p",
        "width_px": 640,
        "height_px": 480,
        "rotation_deg": 0,
        "sample_aspect_ratio": 1,
        "num_frames": 100,
        "duration_s": 4,
        "average_fps": 25,
        "is_vfr": False,
        "has_audio": False,
        "audio_sample_rate_hz": 0,
        "audio_duration_s": 0,
    }
    return f.ProbeFacet.model_validate(usual | changes)


def media_facet(**changes: Any) -> f.MediaFacet:
    """Five silent frames of 16x16, no motion context."""
    usual = {
        "video": FILE,
        "audio": None,
        "width_px": 16,
        "height_px": 16,
        "num_frames": 5,
        "num_motion_frames": 0,
        "shot_index": 0,
        "shot_start_s": 0,
        "shot_end_s": 1,
        "detector": TOY,
        "transform": f.ClipTransform(scale_x=1, scale_y=1, offset_x_px=0, offset_y_px=0),
    }
    return f.MediaFacet.model_validate(usual | changes)


def quality_facet(**changes: Any) -> f.QualityFacet:
    """A sharp, moving picture without text or bars."""
    usual = {
        "sharpness": 100,
        "luma_mean": 0.5,
        "dark_share": 0,
        "bright_share": 0,
        "motion_px": 0.5,
        "freeze_share": 0,
        "longest_freeze_s": 0,
        "border_share": 0,
        "text_area_share": 0,
        "num_text_regions": 0,
        "phash": "0" * 64,
    }
    return f.QualityFacet.model_validate(usual | changes)


def speech_facet(**changes: Any) -> f.SpeechFacet:
    """Somebody speaks most of the time, at broadcast level."""
    usual = {
        "has_audio": True,
        "loudness_lufs": -23,
        "peak_dbfs": -3,
        "voiced_share": 0.8,
        "digital_silence_share": 0.02,
        "clipping_share": 0,
        "backend": TOY,
    }
    return f.SpeechFacet.model_validate(usual | changes)


def silent_facet(**changes: Any) -> f.SpeechFacet:
    """No sound at all."""
    silent = {"has_audio": False, "loudness_lufs": -120, "peak_dbfs": -120}
    return speech_facet(**silent, **{"voiced_share": 0, "digital_silence_share": 0} | changes)


def detect_facet(**changes: Any) -> f.DetectFacet:
    """One person, face and both hands seen throughout."""
    usual = {
        "arrays": FILE,
        "face_share": 1,
        "left_hand_share": 1,
        "right_hand_share": 1,
        "any_hand_share": 1,
        "pose_share": 1,
        "filled_share": 0,
        "multi_person_share": 0,
        "max_person_count": 1,
        "median_face_height_px": 90,
        "matte_area_share": 0.3,
        "backend": TOY,
    }
    return f.DetectFacet.model_validate(usual | changes)


def objects_facet(**changes: Any) -> f.ObjectsFacet:
    """A product held in every frame, surely found."""
    usual = {
        "arrays": FILE,
        "visible_share": 1,
        "in_hand_share": 1,
        "confidence": 0.8,
        "area_share": 0.02,
        "flicker": 0,
        "backend": TOY,
    }
    return f.ObjectsFacet.model_validate(usual | changes)


def references_facet(**changes: Any) -> f.ReferencesFacet:
    """Both pictures from frame 0, a tenth of the person's filled in."""
    usual = {
        "person_image": FILE,
        "product_image": FILE,
        "person_frame": 0,
        "product_frame": 0,
        "filled_share": 0.1,
        "product_height_px": 40,
        "product_width_px": 30,
        "product_confidence": 0.8,
        "product_truncated": False,
        "product_sharpness": 50.0,
        "backend": TOY,
    }
    return f.ReferencesFacet.model_validate(usual | changes)


def triplets_facet(**changes: Any) -> f.TripletsFacet:
    """Pictures that belong together."""
    usual = {
        "person_similarity": 0.9,
        "product_similarity": 0.9,
        "product_leak": 0,
        "hand_in_product_share": 0,
        "face_kept": True,
        "backend": TOY,
    }
    return f.TripletsFacet.model_validate(usual | changes)


def caption_facet(**changes: Any) -> f.CaptionFacet:
    """What a template would say."""
    usual = {
        "prompt": "A person holds a red box.",
        "hoi_prompt": "Black background, a body and a box.",
        "backend": TOY,
    }
    return f.CaptionFacet.model_validate(usual | changes)


def body_facet(**changes: Any) -> f.BodyFacet:
    """A close, calm fit of every frame."""
    usual = {
        "arrays": FILE,
        "reprojection_error_head": 0.03,
        "hand_reprojection_error_head": 0.1,
        "hand_tracked_share": 1,
        "jerk": 0,
        "valid_share": 1,
        "num_left_right_flips": 0,
        "backend": TOY,
    }
    return f.BodyFacet.model_validate(usual | changes)


def structure_facet(**changes: Any) -> f.StructureFacet:
    """The left hand touches a product that is never cut."""
    usual = {
        "video": FILE,
        "arrays": FILE,
        "style": "toy",
        "matte_iou": 0.9,
        "left_contact_share": 1,
        "right_contact_share": 0,
        "any_contact_share": 1,
        "num_contact_onsets": 1,
        "penetration": 0,
        "depth_conflict": 0,
        "object_cut_share": 0,
        "object_visible_share": 1,
        "body_visible_share": 1,
        "hand_visible_share": 1,
        "renderer": TOY,
    }
    return f.StructureFacet.model_validate(usual | changes)


def latents_facet(**changes: Any) -> f.LatentsFacet:
    """One latent of 8x12."""
    usual = {
        "arrays": FILE,
        "num_latents": 1,
        "num_motion_latents": 0,
        "latent_height": 8,
        "latent_width": 12,
        "codec": TOY,
        "rgb_statistics": UNIT,
        "hoi_statistics": UNIT,
        "text_encoder": TOY,
        "audio_encoder": TOY,
        "rgb_psnr_db": 30,
        "hoi_psnr_db": 20,
        "has_audio": True,
        "is_text_cut": False,
    }
    return f.LatentsFacet.model_validate(usual | changes)
