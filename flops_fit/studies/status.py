"""Status of a study, from its manifest alone."""

from collections import Counter
from pathlib import Path
from typing import Any

from flops_fit.studies.manifest import NAME, read_manifest
from flops_fit.studies.results import STATUSES, summary_of

PENDING = "pending"


def study_status(artifact_root: Path) -> dict[str, Any]:
    """Counts a study's jobs by how they ended, and describes each.

    Raises:
        InputError: If there is no manifest, or the file is none.
    """
    manifest = read_manifest(artifact_root)
    ended = {entry["job_id"]: entry["result"] for entry in manifest["jobs"]}
    jobs = []
    for job_id in dict.fromkeys([*manifest["study_jobs"], *ended]):
        result = ended.get(job_id)
        status = PENDING if result is None else str(result.get("status"))
        summary = "" if result is None else summary_of(result)
        jobs.append({"job_id": job_id, "status": status, "summary": summary})
    counts = Counter(job["status"] for job in jobs)
    return {
        "manifest": str(artifact_root / NAME),
        "study": manifest.get("study"),
        "timestamp": manifest["timestamp"],
        "total": len(jobs),
        "counts": {name: counts[name] for name in (*STATUSES, PENDING)},
        "jobs": jobs,
    }
