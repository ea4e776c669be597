/** A plain table for a few dozen rows; scrolls sideways by itself where it is too wide. */

import type { ReactNode } from "react";
import { Scrollable } from "./scrollable";

export interface TableColumn<T> {
  title: string;
  cell: (row: T) => ReactNode;
  /** Numbers stand right. */
  numeric?: boolean;
}

interface TableProps<T> {
  title: string;
  testId: string;
  columns: readonly TableColumn<T>[];
  rows: readonly T[];
  keyOf: (row: T) => string;
  none: string;
}

export function Table<T>({ title, testId, columns, rows, keyOf, none }: TableProps<T>) {
  return (
    <section aria-label={title} data-testid={testId} className="border-b border-line pt-5 pb-3">
      <h2 className="mb-2 px-4 font-semibold sm:px-6">{title}</h2>
      {rows.length === 0 ? (
        <p className="px-4 pb-3 text-muted sm:px-6">{none}</p>
      ) : (
        <Scrollable label={`${title}, table`} className="relative overflow-x-auto">
          <table className="w-full">
            <thead className="text-small whitespace-nowrap text-muted">
              <tr>
                {columns.map((column) => (
                  <th
                    key={column.title}
                    scope="col"
                    className={`px-3 py-1.5 first:pl-4 last:pr-4 sm:first:pl-6 sm:last:pr-6 ${column.numeric ? "text-right" : ""}`}
                  >
                    {column.title || <span className="sr-only">What can be done</span>}
                  </th>
                ))}
              </tr>
            </thead>
            <tbody>
              {rows.map((row) => (
                <tr key={keyOf(row)} className="hover:bg-raised">
                  {columns.map((column) => (
                    <td
                      key={column.title}
                      className={`border-t border-line px-3 py-2 align-top whitespace-nowrap first:pl-4 last:pr-4 sm:first:pl-6 sm:last:pr-6 ${column.numeric ? "text-right" : ""}`}
                    >
                      {column.cell(row)}
                    </td>
                  ))}
                </tr>
              ))}
            </tbody>
          </table>
        </Scrollable>
      )}
    </section>
  );
}
