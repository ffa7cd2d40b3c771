"""Publications that results refer to."""

from __future__ import annotations

from dataclasses import dataclass

from medfuse.imaging.downloads import HOME


@dataclass(frozen=True)
class Reference:
    """One publication; ``{version}`` in the title is that of medfuse in the result.

    Attributes
    ----------
    kind : str
        BibTeX entry type.
    authors : str
        Joined by " and ", family name first; empty where we know the title alone.
    title, where, year : str
    more : str
        Volume and pages, for people.
    doi : str
        DOI, or an address that begins with http.
    """

    kind: str
    authors: str
    title: str
    where: str
    year: str
    more: str = ""
    doi: str = ""


REFERENCES = {
    "medfuse": Reference(
        "software",
        "{The medfuse authors}",
        "medfuse: trustworthy fusion of MRI with PET, SPECT or CT, version {version}",
        "",
        "2026",
        doi=HOME,
    ),
    "qiba": Reference(
        "techreport",
        "{FDG-PET/CT Biomarker Committee}",
        "QIBA Profile: FDG-PET/CT as an Imaging Biomarker Measuring Response to Cancer Therapy",
        "Quantitative Imaging Biomarkers Alliance, RSNA",
        "2016",
        "version 1.13",
    ),
    "mattes": Reference(
        "article",
        "Mattes, D. and Haynor, D. R. and Vesselle, H. and Lewellen, T. K. and Eubank, W.",
        "PET-CT image registration in the chest using free-form deformations",
        "IEEE Transactions on Medical Imaging",
        "2003",
        "22(1), 120-128",
        "10.1109/TMI.2003.809072",
    ),
    "simpleitk": Reference(
        "article",
        "Lowekamp, B. C. and Chen, D. T. and Ibanez, L. and Blezek, D.",
        "The Design of SimpleITK",
        "Frontiers in Neuroinformatics",
        "2013",
        "7, 45",
        "10.3389/fninf.2013.00045",
    ),
    "burt": Reference(
        "article",
        "Burt, P. J. and Adelson, E. H.",
        "The Laplacian Pyramid as a Compact Image Code",
        "IEEE Transactions on Communications",
        "1983",
        "31(4), 532-540",
        "10.1109/TCOM.1983.1095851",
    ),
    "hybrid": Reference(
        "misc",
        "",
        "Hybrid Fusion: One-Minute Efficient Training for Zero-Shot Cross-Domain Image Fusion",
        "arXiv 2602.20851",
        "2026",
        doi="https://arxiv.org/abs/2602.20851",
    ),
    "unet": Reference(
        "inproceedings",
        "Ronneberger, O. and Fischer, P. and Brox, T.",
        "U-Net: Convolutional Networks for Biomedical Image Segmentation",
        "MICCAI",
        "2015",
        "234-241",
        "10.1007/978-3-319-24574-4_28",
    ),
    "andrychowicz": Reference(
        "inproceedings",
        "Andrychowicz, M. and others",
        "Learning to learn by gradient descent by gradient descent",
        "Advances in Neural Information Processing Systems",
        "2016",
        "29",
        "https://arxiv.org/abs/1606.04474",
    ),
    "gifnet": Reference(
        "inproceedings",
        "",
        "One Model for ALL: Low-Level Task Interaction Is a Key to Task-Agnostic Image Fusion",
        "CVPR",
        "2025",
        "arXiv 2502.19854",
        "https://arxiv.org/abs/2502.19854",
    ),
    "unfolding": Reference(
        "article",
        "Wang and Deng and Cao and Vivone",
        "",
        "IEEE Transactions on Pattern Analysis and Machine Intelligence",
        "2026",
        doi="10.1109/TPAMI.2026.3655694",
    ),
}


def as_text(reference: Reference, version: str) -> str:
    """One line for a list of references."""
    names = reference.authors.strip("{}").replace(" and others", " et al.").replace(" and ", "; ")
    authors = f"{names.rstrip('.')}. " if names else ""
    place = ", ".join(part for part in (reference.where, reference.more, reference.year) if part)
    title = f"{reference.title.replace('{version}', version)}. " if reference.title else ""
    return f"{authors}{title}{place}.{_address(reference)}"


def as_bibtex(key: str, reference: Reference, version: str) -> str:
    """One entry of a BibTeX file."""
    field = {"article": "journal", "inproceedings": "booktitle", "techreport": "institution"}
    title = reference.title.replace("{version}", version)
    is_doi = reference.doi and not reference.doi.startswith("http")
    rows = {
        "author": reference.authors,
        "title": f"{{{title}}}" if title else "",
        field.get(reference.kind, "howpublished"): reference.where,
        "year": reference.year,
        "note": reference.more,
        "version": version if reference.kind == "software" else "",
        "doi" if is_doi else "url": reference.doi,
    }
    body = "".join(f"  {name} = {{{value}}},\n" for name, value in rows.items() if value)
    return f"@{reference.kind}{{{key},\n{body}}}\n"


def _address(reference: Reference) -> str:
    if not reference.doi:
        return ""
    return f" {reference.doi if reference.doi.startswith('http') else f'doi:{reference.doi}'}"
