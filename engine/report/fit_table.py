"""The table of a fit, as a person reads it at the end of `engine fit`."""

from rich.table import Table

from engine.fitting.petab_fit import PetabFit


def fit_table(fit: PetabFit) -> Table:
    """Estimates with their standard errors, on the scale that each was searched on.

    Args:
        fit: the fit.

    Returns:
        A table for a console.
    """
    information = fit.information
    title = f"{fit.problem.name}: negative log-likelihood {fit.negative_log_likelihood:.6f}"
    table = Table("parameter", "value", "standard error", "scale", "", title=title)
    columns = (information.space.parameters, information.standard_errors, information.is_at_bound)
    for one, error, is_at_bound in zip(*columns, strict=True):
        scale = type(one.transform).__name__.lower()
        note = "at a bound" if is_at_bound else ""
        table.add_row(one.name, f"{fit.best[one.name]:.6g}", f"{error:.3g}", scale, note)
    table.caption = "standard errors are on the scale given, from the Fisher information"
    return table
