"""The report of a run: one HTML file that needs nothing else, made from the container alone."""

from halo_mdn.report.html import REPORT as REPORT
from halo_mdn.report.html import report_html as report_html
from halo_mdn.report.html import write_report as write_report
