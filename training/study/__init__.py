# SPDX-License-Identifier: GPL-3.0-or-later
"""The paper's user study as a local page: which of two results is nearer to the film? (`neural-avatar compare`)."""
