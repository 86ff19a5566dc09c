"""How likely images are under a model, by three estimators that never share a name, each in one kind of report.

The variational bound (VLB, minus the ELBO) in bits/dim, K of Sohl-Dickstein et al. 2015 in its own units, and the
likelihood of the probability-flow ODE in bits/dim.
"""

from sfumato.likelihood.bound import bound_of
from sfumato.likelihood.flow import Flow, adaptive, ode_likelihood, runge_kutta
from sfumato.likelihood.lower_bound import k_of
from sfumato.likelihood.report import Report

__all__ = ["Flow", "Report", "adaptive", "bound_of", "k_of", "ode_likelihood", "runge_kutta"]
